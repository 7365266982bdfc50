import pytest
import torch

from boustro import BoustroTokenizer
from boustro.data_scripts.errors import DataError
from boustro.evaluation.toxicity import bad_words_ids, blocklist_hits, read_blocklist
from tests.conftest import small_model


@pytest.fixture
def blocklist(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# comment\nass\n\nSon of a Gun\n笨蛋\nass\n", encoding="utf-8")
    return path


def test_whole_words_and_han_passages_are_hit(blocklist):
    entries = read_blocklist(blocklist)
    assert entries == ["ass", "son of a gun", "笨蛋"]
    texts = ["An ASS, a class, assume", "你这个大笨蛋ass吗", "a son of a gun.", "fine"]
    found = blocklist_hits(texts, entries)
    assert (found["hits"], found["different"], found["share"], found["texts"]) == (4, 3, 0.75, 4)
    assert found["per_million"] == pytest.approx(4e6 / sum(map(len, texts)))


def test_the_shipped_list_is_used_without_another():
    assert "damn" in read_blocklist()


def test_a_list_that_is_no_list_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        read_blocklist(tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="holds no entry, expected a word or phrase a line"):
        read_blocklist(tmp_path / "empty.txt")


def test_generate_never_writes_what_is_banned(tmp_path):
    tokenizer = BoustroTokenizer.train_from_iterator(["ab ", "笨蛋"])
    (tmp_path / "list.txt").write_text("ab\n笨蛋\n", encoding="utf-8")
    ids = bad_words_ids(tmp_path / "list.txt", tokenizer)
    model = small_model(vocab_size=len(tokenizer), latent_size=0)
    with torch.no_grad():  # a model that only writes those characters
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(-50.0)[tokenizer.convert_tokens_to_ids(list("ab 笨蛋"))] = 0.0
    prompt = tokenizer([" "] * 8, return_tensors="pt")
    settings = {"do_sample": True, "max_new_tokens": 120}
    torch.manual_seed(0)
    free = tokenizer.batch_decode(model.generate(**prompt, **settings), skip_special_tokens=True)
    assert any(" ab " in text for text in free) and any("笨蛋" in text for text in free)
    texts = tokenizer.batch_decode(model.generate(**prompt, **settings, bad_words_ids=ids), skip_special_tokens=True)
    assert not any(" ab " in text or "笨蛋" in text for text in texts)
    assert any(" aba" in text for text in texts)  # longer words remain possible
