"""The one exception that data preparation raises for its users."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

# what reading a file raises that is cut off or holds something else
DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    SafetensorError,
)


class DataError(ValueError):
    """Something about the data or its options that the user can mend; the message says what and how."""


@contextmanager
def as_written(path: str | Path, mend: str = "restore it, or delete it") -> Iterator[None]:
    """Raises `DataError` where a file of a run turns out to hold something else than training wrote."""
    try:
        yield
    except DAMAGE as error:
        found = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not what training wrote ({found}): {mend}.") from error
