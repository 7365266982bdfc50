"""Train and validation parts: the end of a stream, or documents chosen at random."""

import numpy as np
from datasets import Dataset, concatenate_datasets

from .errors import DataError
from .mapping import apply

SEPARATORS = {"line": "\n", "paragraph": "\n\n", "document": "\n\n"}  # what ends a row within a stream


def end_rows(batch: dict, rows: list[int], separator: str, last_row: int) -> dict:
    """For `datasets.map(batched=True, with_indices=True)`: ends every text but the last with `separator`.

    Line feeds that the text ends with already count towards it.
    """
    return {
        "text": [
            text if row == last_row else _end(text, separator) for text, row in zip(batch["text"], rows, strict=True)
        ]
    }


def join_rows(dataset: Dataset, sample_by: str, num_proc: int = 1) -> Dataset:
    """Makes the texts of the rows, one behind the other, the text of a stream."""
    return apply(
        dataset,
        end_rows,
        description="Joining",
        num_proc=num_proc,
        with_indices=True,
        fn_kwargs={"separator": SEPARATORS[sample_by], "last_row": len(dataset) - 1},
    )


def split_stream(dataset: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Cuts the concatenated text after `int((1 - fraction) * characters)` characters.

    The row in which the cut falls ends up in both parts, its beginning in the first.

    Raises:
        DataError: if one part would be empty.
    """
    ends = np.cumsum([len(text) for text in dataset["text"][:]])
    total = int(ends[-1])
    cut = int((1 - fraction) * total)
    if not 0 < cut < total:
        raise DataError(
            f"The text of {total} characters is too short to split with validation_fraction {fraction}: "
            "give more text, or other text as validation_file."
        )
    row = int(np.searchsorted(ends, cut, side="right"))
    text = dataset[row]["text"]
    within = cut - int(ends[row]) + len(text)
    train = [dataset.select(np.arange(row)), _one_row(dataset, text[:within])]
    validation = [_one_row(dataset, text[within:]), dataset.select(np.arange(row + 1, len(dataset)))]
    return concatenate_datasets(train if within else train[:1]), concatenate_datasets(validation)


def split_documents(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Takes a share of the rows, at least one, chosen by `seed`, for validation; both parts keep their order.

    Raises:
        DataError: if no row would be left for one of the parts.
    """
    rows = len(dataset)
    count = max(1, round(fraction * rows))
    if count >= rows:
        raise DataError(
            f"{rows} document{'' if rows == 1 else 's'} cannot be split with validation_fraction {fraction}: "
            "give more documents, or validation_file, or choose input_mode stream to cut within a document."
        )
    chosen = np.zeros(rows, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(rows)[:count]] = True
    return dataset.select(np.flatnonzero(~chosen)), dataset.select(np.flatnonzero(chosen))


def _one_row(like: Dataset, text: str) -> Dataset:
    return Dataset.from_dict({"text": [text]}, features=like.features)


def _end(text: str, separator: str) -> str:
    present = len(text) - len(text.rstrip("\n"))
    return text + separator[present:]
