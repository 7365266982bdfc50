"""Configuration of boustro models: typed fields, validated when made and when loaded."""

import math
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class BoustroConfig(PreTrainedConfig):
    r"""
    Configuration of a [`BoustroModel`]: a character-level LSTM language model whose text is cut into segments,
    each with a latent vector z that is inferred from the segment (training, prompts) or drawn from a prior (new text).

    Args:
        vocab_size (`int`): number of token ids: special tokens, 256 bytes and the characters of the corpus.
        embedding_size (`int`): size of a character embedding.
        hidden_size (`int`): size H of each layer of the context and of the generator LSTM.
        num_context_layers (`int`): layers of the context LSTM, which reads the past and never sees a latent.
        num_generator_layers (`int`): layers of the generator LSTM, which reads context and aligned plan. May be 0
            only with `latent_size=0`.
        latent_size (`int`): size Z of the latent of a segment. 0 removes every latent part and leaves the plain
            embedding → LSTM → linear language model.
        latent_prior (`"conditional"` or `"standard"`): `"conditional"` is a mixture of Gaussians whose weights are
            predicted from the text before the segment; `"standard"` is N(0, I), for short documents.
        prior_components (`int`): Gaussians that the conditional prior mixes.
        segment_length (`int`): the number S of characters that share one latent.
        encoder_hidden_size (`int`): size of the posterior encoder's LSTM.
        backward_hidden_size (`int`): size Hb of the states of the backward decoder, which are the plan.
        plan_skip (`bool`): add a projection of the aligned plan to what the softmax layer reads, beside the plan's way
            through the generator LSTM. Without it the latent is heard less.
        dropout (`float`): locked dropout (one mask for all time steps; Gal & Ghahramani 2016) on the inputs of both
            LSTMs and of the output layer.
        word_start_dropout (`float`): the share of rows whose word starts are hidden from the encoder in training, so
            that unsegmented prompts are in distribution.
        kl_floor (`float`): nats per full segment below which the KL is not pushed down in training mode (free bits;
            Kingma et al. 2016, section 2.4). 0 trains on the pure bound. Evaluation never uses it. boustro's own
            training loop moves the weight of the KL instead, so that the mean KL settles here.
        backward_weight (`float`): weight of the backward decoder's own negative log-likelihood (nats per character)
            in the training objective.
        backward_horizon (`float`): characters over which that weight falls to 1/e from the start of a segment, so that
            z tells first what comes next. 0: the same weight at every place.
        tie_word_embeddings (`bool`): share the embedding with the output layer; needs `embedding_size == hidden_size`.
        pad_token_id, bos_token_id, eos_token_id (`int`): special ids, as `BoustroTokenizer` numbers them.
        use_cache (`bool`): return `past_key_values` from unlabelled calls.

    Raises a `StrictDataclassError` (a `ValueError` or `TypeError` inside) that names the field when a value has the
    wrong type, is out of range or contradicts another.
    """

    model_type = "boustro"
    # `Trainer.predict` and `compute_metrics` get the logits alone, as from any language model
    keys_to_ignore_at_inference = [  # noqa: RUF012
        "past_key_values",
        "reconstruction",
        "kl",
        "backward_nll",
        "target_count",
        "segment_count",
        "latents",
        "posterior_mean",
        "alignments",
    ]

    vocab_size: int = 324
    embedding_size: int = 64
    hidden_size: int = 256
    num_context_layers: int = 1
    num_generator_layers: int = 1
    latent_size: int = 32
    latent_prior: Literal["conditional", "standard"] = "conditional"
    prior_components: int = 64
    segment_length: int = 128
    encoder_hidden_size: int = 128
    backward_hidden_size: int = 64
    plan_skip: bool = True
    dropout: float | int = 0.1
    word_start_dropout: float | int = 0.5
    kl_floor: float | int = 0.0
    backward_weight: float | int = 0.1
    backward_horizon: float | int = 0
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    use_cache: bool = True

    @property
    def has_mixture_prior(self) -> bool:
        """Whether the prior mixes several Gaussians, so that a KL from it can only be estimated."""
        return self.latent_prior == "conditional" and self.prior_components > 1

    def validate_sizes(self):
        """Every size is a positive number of units."""
        positive = ("vocab_size", "embedding_size", "hidden_size", "num_context_layers", "segment_length")
        if self.latent_size > 0:
            positive += ("prior_components", "encoder_hidden_size", "backward_hidden_size")
            layers = self.num_generator_layers
            _require(layers >= 1, "num_generator_layers", layers, "at least 1 (0 only with latent_size=0)")
        for name in positive:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        for name in ("latent_size", "num_generator_layers"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or a positive whole number")

    def validate_rates(self):
        """Dropout rates leave something to keep, and weights are not negative."""
        for name in ("dropout", "word_start_dropout"):
            upper = 1.0 if name == "word_start_dropout" else 0.99
            _require(0 <= getattr(self, name) <= upper, name, getattr(self, name), f"a number from 0 to {upper}")
        for name in ("kl_floor", "backward_weight", "backward_horizon"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or a positive number")

    def validate_special_tokens(self):
        """Special ids lie inside the vocabulary."""
        eos = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        for name, ids in (
            ("pad_token_id", [self.pad_token_id]),
            ("bos_token_id", [self.bos_token_id]),
            ("eos_token_id", eos),
        ):
            for value in ids:
                inside = value is None or 0 <= value < self.vocab_size
                _require(inside, name, value, f"an id below vocab_size={self.vocab_size}, or None")

    def validate_tying(self):
        """A tied output layer has the shape of the embedding."""
        if self.tie_word_embeddings:
            _require(
                self.embedding_size == self.hidden_size,
                "tie_word_embeddings",
                True,
                f"embedding_size ({self.embedding_size}) equal to hidden_size ({self.hidden_size}); "
                "make them equal or set tie_word_embeddings=False",
            )

    def validate_weights_file(self):
        """A file of weights that a config names, as transformers lets it, is no pickle."""
        name = getattr(self, "transformers_weights", None)
        safe = name is None or name.endswith((".safetensors", ".safetensors.index.json"))
        _require(safe, "transformers_weights", name, "a file in safetensors")


def _require(condition: bool, field: str, found, expected: str) -> None:
    if not condition:
        raise ValueError(f"BoustroConfig.{field} is {found!r}, expected {expected}.")


__all__ = ["BoustroConfig"]
