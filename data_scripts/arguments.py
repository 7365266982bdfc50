"""Options of data preparation: where the text comes from and how it is cleaned, split and vectorised."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from boustro.tokenization_boustro import FIRST_CHARACTER_ID

from .cleaning import VERBATIM, Cleaning
from .deduplication import THRESHOLD
from .errors import DataError
from .files import read_report
from .filters import Blocklist, Boilerplate, Characters, Language, Length, Repetition, Rule
from .segmentation import DEFAULT_SEGMENTER

SEPARATE_ROWS = {"stream": "document", "documents": "line"}  # default of sample_by for each input mode
NO_FILTERS = "none"
QUALITY_RULES = {"characters": Characters, "repetition": Repetition, "boilerplate": Boilerplate}


@dataclass
class DataArguments:
    """Fields for `HfArgumentParser`; `train_file` and `validation_file` may also be a single string.

    Raises:
        DataError: if a field is out of range or two fields contradict each other.
    """

    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Training text: paths or globs of .txt, .jsonl, .csv or .parquet files (UTF-8). With neither "
            "this nor --dataset-name: the Python reference topics of the standard library."
        },
    )
    validation_file: list[str] | None = field(
        default=None,
        metadata={"help": "Validation text, as --train-file. Default: a part of the training text."},
    )
    text_column: str = field(
        default="text",
        metadata={"help": "Column that holds the text (.jsonl, .csv, .parquet, Hub datasets)."},
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Dataset on the Hugging Face Hub, for example roneneldan/TinyStories."}
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of --dataset-name, where it has several."}
    )
    dataset_split: str = field(default="train", metadata={"help": "Split of --dataset-name to train on."})
    streaming: bool = field(
        default=False,
        metadata={"help": "Read rows as they come, up to --max-characters, without storing the whole data."},
    )
    prepared: str | None = field(
        default=None,
        metadata={
            "help": "Folder that `python -m boustro.data_scripts.prepare` has written: its splits, vocabulary and "
            "input mode are taken as they are."
        },
    )
    max_characters: int | None = field(
        default=None,
        metadata={"help": "Read at most this many characters of training text, from the beginning."},
    )
    input_mode: Literal["stream", "documents"] = field(
        default="stream",
        metadata={"help": "stream: one long text, documents joined by blank lines. documents: each row by itself."},
    )
    sample_by: Literal["line", "paragraph", "document"] | None = field(
        default=None,
        metadata={
            "help": "What is a row of a .txt file: a line, a paragraph or the whole file (document). Default: "
            "document for --input-mode stream, line for documents."
        },
    )
    validation_fraction: float = field(
        default=0.1,
        metadata={"help": "Share of the text kept for validation: the end of a stream, or rows chosen at random."},
    )
    test_fraction: float = field(
        default=0.0,
        metadata={"help": "Share of the text that is kept as a third split, for a last test, and never trained on."},
    )
    verbatim: bool = field(
        default=False,
        metadata={"help": "Keep every byte: nothing is cleaned, filtered, deduplicated or redacted."},
    )
    fix_mojibake: bool = field(
        default=True, metadata={"help": "Put text right that was decoded in the wrong encoding (ftfy)."}
    )
    unify_line_ends: bool = field(default=True, metadata={"help": "CR LF and CR become LF."})
    remove_controls: bool = field(
        default=True, metadata={"help": "Remove control and invisible characters; joiners of emoji stay."}
    )
    unescape_entities: bool = field(default=False, metadata={"help": "HTML entities become characters."})
    strip_markup: bool = field(default=False, metadata={"help": "Remove tags, comments, scripts and styles."})
    han_script: Literal["keep", "simplified", "traditional"] = field(
        default="keep", metadata={"help": "Convert Chinese text to this script (OpenCC, boustro[data])."}
    )
    width: Literal["keep", "letters", "all"] = field(
        default="keep",
        metadata={"help": "Full-width letters and digits become ASCII (letters), punctuation and spaces too (all)."},
    )
    join_han: bool = field(default=False, metadata={"help": "Remove spaces between Han characters."})
    tidy_spaces: bool = field(
        default=False, metadata={"help": "Remove spaces at line ends and all blank lines of a row but one in a row."}
    )
    normalization: Literal["NFC", "NFKC", "none"] = field(
        default="NFC", metadata={"help": "Unicode normal form of the text."}
    )
    min_characters: int = field(default=1, metadata={"help": "Drop rows of fewer characters than this."})
    filters: list[str] = field(
        default_factory=list,
        metadata={"help": f"Rules of quality that drop rows: some of {', '.join(QUALITY_RULES)}, or none."},
    )
    languages: list[str] = field(
        default_factory=list,
        metadata={"help": "Drop rows in other languages than these, for example en zh (py3langid, boustro[data])."},
    )
    blocklist: str | None = field(
        default=None, metadata={"help": "UTF-8 file of phrases, one a line; rows that hold one are dropped."}
    )
    deduplicate: bool = field(
        default=True,
        metadata={"help": "Drop rows that are copies of an earlier row, white space and width of letters apart."},
    )
    near_duplicates: bool = field(
        default=False,
        metadata={
            "help": "Drop near copies too: rows from 200 bytes on that share most of their 5-grams of characters."
        },
    )
    near_threshold: float = field(
        default=THRESHOLD,
        metadata={"help": "Least Jaccard similarity of near copies. 0.45 finds those with 5 %% of edited characters."},
    )
    redact: Literal["keep", "replace", "drop"] = field(
        default="keep",
        metadata={"help": "Personal data and secrets: leave them, put placeholders in their place, or drop the row."},
    )
    min_frequency: int = field(
        default=1,
        metadata={"help": "Characters rarer than this in the training text are spelt in UTF-8 bytes."},
    )
    max_vocab_size: int | None = field(
        default=None,
        metadata={"help": f"Most ids in all, {FIRST_CHARACTER_ID} special and byte ids included."},
    )
    segmenter: str = field(
        default=DEFAULT_SEGMENTER,
        metadata={"help": "Function that cuts Chinese text into words, MODULE:FUNCTION, for example jieba:lcut."},
    )
    canaries: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Plant a made-up secret for each number, that many times, in the training text, so that "
            "`python -m boustro.evaluation safety` can tell what the model memorises; such as 1 1 1 10 100."
        },
    )
    num_proc: int = field(default=1, metadata={"help": "Processes for every step but reading."})

    def __post_init__(self):
        self.train_file = _as_list(self.train_file)
        self.validation_file = _as_list(self.validation_file)
        self.filters = _as_list(self.filters)
        if self.filters == [NO_FILTERS]:
            self.filters = []
        self.languages = _as_list(self.languages)
        if self.prepared and (self.train_file or self.dataset_name or self.validation_file):
            raise DataError(
                f"prepared ({self.prepared}) holds its own text, but train_file, validation_file or dataset_name is "
                "given too: leave it out, or prepare the text anew."
            )
        if self.prepared:
            self.input_mode = read_report(Path(self.prepared))["input_mode"]
        if self.verbatim:
            self.deduplicate, self.near_duplicates, self.redact, self.filters = False, False, "keep", []
        if self.sample_by is None:
            self.sample_by = SEPARATE_ROWS.get(self.input_mode)
        self._check_choices()
        self._check_ranges()
        self._check_source()

    def _check_choices(self):
        _check_choice("input_mode", self.input_mode, ("stream", "documents"))
        _check_choice("sample_by", self.sample_by, ("line", "paragraph", "document"))
        _check_choice("normalization", self.normalization, ("NFC", "NFKC", "none"))
        _check_choice("han_script", self.han_script, ("keep", "simplified", "traditional"))
        _check_choice("width", self.width, ("keep", "letters", "all"))
        _check_choice("redact", self.redact, ("keep", "replace", "drop"))
        for name in self.filters:
            _check_choice("filters", name, tuple(QUALITY_RULES))

    def _check_ranges(self):
        for name in ("min_characters", "min_frequency", "num_proc"):
            _check_least(name, getattr(self, name), 1)
        if self.max_characters is not None:
            _check_least("max_characters", self.max_characters, 1)
        if self.max_vocab_size is not None:
            _check_least("max_vocab_size", self.max_vocab_size, FIRST_CHARACTER_ID + 1)
        for count in self.canaries:
            _check_least("canaries", count, 1)
        if not 0 < self.validation_fraction < 1:
            raise DataError(
                f"validation_fraction is {self.validation_fraction}, expected a number between 0 and 1 such as "
                "0.1. To validate on other text, give validation_file."
            )
        held_out = self.test_fraction + (0 if self.validation_file else self.validation_fraction)
        if not (0 <= self.test_fraction < 1 and held_out < 1):
            raise DataError(
                f"test_fraction is {self.test_fraction} beside a validation_fraction of {self.validation_fraction}, "
                "expected numbers from 0 that leave something to train on."
            )
        if not 0 < self.near_threshold <= 1:
            raise DataError(f"near_threshold is {self.near_threshold}, expected a number over 0 and up to 1.")

    def _check_source(self):
        if self.train_file and self.dataset_name:
            raise DataError(
                f"train_file ({', '.join(self.train_file)}) and dataset_name ({self.dataset_name}) are both "
                "given, expected one of them: leave one out."
            )
        if self.dataset_config and not self.dataset_name:
            raise DataError(
                f"dataset_config is {self.dataset_config!r} but dataset_name is not given: name the dataset."
            )
        if self.streaming and not (self.train_file or self.dataset_name):
            raise DataError("streaming needs something to stream: give train_file or dataset_name.")
        if self.streaming and self.max_characters is None:
            raise DataError(
                "streaming is on but max_characters is not given: say how much text to take, "
                "for example max_characters 10000000."
            )

    def cleaning(self) -> Cleaning:
        """The cleaning rules that the options ask for."""
        if self.verbatim:
            return VERBATIM
        return Cleaning(**{field.name: getattr(self, field.name) for field in fields(Cleaning)})

    def rules(self) -> list[Rule]:
        """The filter rules that the options ask for, with their thresholds; none if `verbatim`."""
        if self.verbatim:
            return []
        chosen = [rule() for name, rule in QUALITY_RULES.items() if name in self.filters]
        chosen += [Language(tuple(self.languages))] if self.languages else []
        chosen += [Blocklist.from_file(self.blocklist)] if self.blocklist else []
        return [Length(self.min_characters), *chosen]


def _as_list(paths: list[str] | str | None) -> list[str] | None:
    return [paths] if isinstance(paths, str) else paths


def _check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"{name} is {value!r}, expected one of {', '.join(choices)}.")


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise DataError(f"{name} is {value}, expected {least} or more.")
