import pytest

from boustro import BoustroConfig


def test_round_trip_keeps_every_field(tmp_path):
    config = BoustroConfig(hidden_size=77, latent_prior="standard", kl_floor=2, dropout=0.3)
    config.save_pretrained(tmp_path)
    assert BoustroConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", 2.5),
        ("segment_length", -1),
        ("latent_size", -4),
        ("latent_prior", "flow"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("word_start_dropout", 1.5),
        ("kl_floor", -1.0),
        ("backward_weight", "much"),
        ("eos_token_id", 324),
        ("pad_token_id", -1),
    ],
)
def test_bad_value_is_refused_and_the_field_named(field, value):
    with pytest.raises(Exception, match=field) as caught:
        BoustroConfig(**{field: value})
    assert str(value) in str(caught.value)


def test_generator_layers_may_be_zero_only_without_latent():
    assert BoustroConfig(latent_size=0, num_generator_layers=0).num_generator_layers == 0
    with pytest.raises(Exception, match="num_generator_layers"):
        BoustroConfig(latent_size=8, num_generator_layers=0)


def test_tying_needs_equal_sizes():
    with pytest.raises(Exception, match="embedding_size"):
        BoustroConfig(tie_word_embeddings=True, embedding_size=32, hidden_size=64)
