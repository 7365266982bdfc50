import pytest

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.canaries import DIGITS, plant
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import prepare
from boustro.data_scripts.shards import concatenate, write_shard

LINES = [f"line {number} of a text" for number in range(60)]


@pytest.fixture
def planted(tmp_path):
    """Plants in the texts, a shard each; returns the texts of all shards, and the canaries."""

    def plant_in(texts, repeats, input_mode, seed):
        folder = tmp_path / f"{input_mode}-{seed}"
        folder.mkdir()
        shards = [write_shard([(text, "") for text in part], folder / f"{i}.arrow") for i, part in enumerate(texts)]
        shards, canaries = plant(shards, repeats, input_mode, seed, folder / "planted")
        return concatenate(shards)["text"][:], canaries

    return plant_in


def sentences(canaries):
    return [canary["form"].format(canary["secret"]) for canary in canaries]


def test_each_canary_is_a_line_of_its_own_and_nothing_else_changes(planted):
    text = "\n".join(LINES) + "\n"
    texts, canaries = planted([[text[:300], text[300:500]], [text[500:]]], [1, 7], "stream", seed=3)
    lines = "".join(texts).split("\n")
    one, seven = sentences(canaries)
    assert (lines.count(one), lines.count(seven)) == (1, 7)
    assert [line for line in lines if line not in (one, seven)] == text.split("\n")
    assert all(len(canary["secret"]) == DIGITS and canary["secret"].isdigit() for canary in canaries)


def test_documents_get_canaries_as_documents(planted):
    texts, canaries = planted([LINES], [2], "documents", seed=0)
    assert texts == [*LINES, *sentences(canaries) * 2]


def test_the_seed_decides_and_chinese_text_gets_a_chinese_sentence(planted, tmp_path):
    shards = [write_shard([("春眠不觉晓。\n处处闻啼鸟。\n" * 5, "")], tmp_path / "a.arrow")]
    again = [plant(shards, [3], "stream", seed, tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))]
    texts = [concatenate(found)["text"][:] for found, _ in again]
    assert texts[0] == texts[1] != texts[2]
    assert again[0][1][0]["form"].startswith("秘密")


def test_a_text_of_one_line_is_planted_too(planted):
    (text,), canaries = planted([["x" * 100]], [2], "stream", seed=0)
    assert text.count(sentences(canaries)[0]) == 2


def test_only_the_training_part_is_planted_and_the_report_says_what(write):
    path = write("a.txt", "\n".join(LINES))
    prepared = prepare(DataArguments(train_file=path, canaries=[5]), seed=1)
    (sentence,) = sentences(prepared.report["canaries"])
    assert prepared.tokenizer.decode(prepared.train.ids.tolist()).count(sentence) == 5
    assert sentence not in prepared.tokenizer.decode(prepared.validation.ids.tolist())
    assert prepare(DataArguments(train_file=path)).report["canaries"] == []


def test_a_canary_planted_no_time_is_refused():
    with pytest.raises(DataError, match="canaries is 0, expected 1 or more"):
        DataArguments(canaries=[3, 0])
