import pytest
from datasets import Dataset

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.canaries import DIGITS, plant
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import prepare

LINES = [f"line {number} of a text" for number in range(60)]


def rows(*texts):
    return Dataset.from_dict({"text": list(texts)})


def sentences(canaries):
    return [canary["form"].format(canary["secret"]) for canary in canaries]


def test_each_canary_is_a_line_of_its_own_and_nothing_else_changes():
    text = "\n".join(LINES) + "\n"
    planted, canaries = plant(rows(text[:500], text[500:]), [1, 7], "stream", seed=3)
    lines = "".join(planted["text"][:]).split("\n")
    one, seven = sentences(canaries)
    assert (lines.count(one), lines.count(seven)) == (1, 7)
    assert [line for line in lines if line not in (one, seven)] == text.split("\n")
    assert all(len(canary["secret"]) == DIGITS and canary["secret"].isdigit() for canary in canaries)


def test_documents_get_canaries_as_documents():
    planted, canaries = plant(rows(*LINES), [2], "documents", seed=0)
    assert planted["text"][:] == [*LINES, *sentences(canaries) * 2]


def test_the_seed_decides_and_chinese_text_gets_a_chinese_sentence():
    text = rows("春眠不觉晓。\n处处闻啼鸟。\n" * 5)
    again = [plant(text, [3], "stream", seed)[0]["text"][:] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]
    assert plant(text, [3], "stream", 1)[1][0]["form"].startswith("秘密")


def test_a_text_of_one_line_is_planted_too():
    planted, canaries = plant(rows("x" * 100), [2], "stream", seed=0)
    assert planted["text"][0].count(sentences(canaries)[0]) == 2


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
