"""Which preset fits a corpus and a time budget: `train.py --auto`."""

from dataclasses import dataclass
from pathlib import Path

from boustro.data_scripts.errors import DataError
from boustro.data_scripts.files import find_files, read_report

EMBEDDED_CHARACTERS = 540_000  # the text that is trained on without --train-file
UNKNOWN_CHARACTERS = 10_000_000  # assumed of a Hub dataset whose size nobody told
DEFAULT_MINUTES = 15.0


@dataclass(frozen=True)
class Preset:
    """A shipped recipe for long text.

    Attributes:
        speed: characters a second in training on two CPU cores without bf16, roughly (docs/guide.md).
        least_read: characters that it must be able to read before it beats the next smaller one.
        least_corpus: characters of text below which it overfits.
    """

    name: str
    speed: int
    least_read: int
    least_corpus: int


# from the largest to the smallest; the last one fits always
PRESETS = (
    Preset("base", 3_000, 20_000_000, 2_000_000),
    Preset("small", 8_000, 1_500_000, 100_000),
    Preset("tiny", 20_000, 0, 0),
)


def choose_preset(characters: int, minutes: float) -> Preset:
    """The largest preset that reads enough in `minutes` of CPU time, for a text of so many characters."""
    fitting = (p for p in PRESETS if minutes * 60 * p.speed >= p.least_read and characters >= p.least_corpus)
    return next(fitting, PRESETS[-1])


def corpus_characters(values: dict) -> int:
    """About how many characters the options name, by the sizes of the files and their beginnings."""
    files = values.get("train_file")
    if values.get("prepared"):
        found = read_report(Path(values["prepared"]))["train"]["characters"]
    elif files:
        try:
            found = sum(_characters_of(path) for path in find_files([files] if isinstance(files, str) else files))
        except (DataError, OSError):
            return UNKNOWN_CHARACTERS  # data preparation says what is wrong with the files
    else:
        found = UNKNOWN_CHARACTERS if values.get("dataset_name") else EMBEDDED_CHARACTERS
    return min(found, values.get("max_characters") or found)


def _characters_of(path: str) -> int:
    """Bytes of a file, by as many characters a byte as at its beginning."""
    with open(path, "rb") as file:
        sample = file.read(1 << 16)
    size = Path(path).stat().st_size
    return size * len(sample.decode("utf-8", "ignore")) // max(len(sample), 1)
