import pytest
from transformers import HfArgumentParser

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError


def parse(*arguments):
    (parsed,) = HfArgumentParser(DataArguments).parse_args_into_dataclasses(list(arguments))
    return parsed


def test_command_line():
    args = parse(
        *("--train_file", "a.txt", "b/*.txt", "--input_mode", "documents", "--sample_by", "paragraph"),
        *("--no_deduplicate", "--max_characters", "1000", "--streaming"),
    )
    assert args.train_file == ["a.txt", "b/*.txt"]
    assert (args.input_mode, args.sample_by, args.deduplicate) == ("documents", "paragraph", False)
    assert args.max_characters == 1000 and args.streaming


def test_a_recipe_may_name_one_file():
    (args,) = HfArgumentParser(DataArguments).parse_dict({"train_file": "a.txt", "validation_file": "b.txt"})
    assert args.train_file == ["a.txt"] and args.validation_file == ["b.txt"]


@pytest.mark.parametrize(("input_mode", "sample_by"), [("stream", "document"), ("documents", "line")])
def test_default_rows(input_mode, sample_by):
    assert DataArguments(input_mode=input_mode).sample_by == sample_by


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation_fraction": 0}, "validation_fraction is 0, expected a number between 0 and 1"),
        ({"validation_fraction": 1.5}, "validation_fraction is 1.5"),
        ({"min_characters": 0}, "min_characters is 0, expected 1 or more"),
        ({"min_frequency": 0}, "min_frequency is 0"),
        ({"num_proc": 0}, "num_proc is 0"),
        ({"max_characters": 0}, "max_characters is 0"),
        ({"max_vocab_size": 259}, "max_vocab_size is 259, expected 260 or more"),
        ({"input_mode": "files"}, "input_mode is 'files', expected one of stream, documents"),
        ({"sample_by": "word"}, "sample_by is 'word'"),
        ({"normalization": "NFX"}, "normalization is 'NFX'"),
        ({"train_file": "a.txt", "dataset_name": "b"}, "train_file .a.txt. and dataset_name .b. are both"),
        ({"dataset_config": "en"}, "dataset_config is 'en' but dataset_name is not given"),
        ({"streaming": True, "max_characters": 5}, "streaming needs something to stream"),
        ({"streaming": True, "train_file": "a.txt"}, "streaming is on but max_characters is not given"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(DataError, match=message):
        DataArguments(**fields)
