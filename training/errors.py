"""The error of everything a person can mend: a wrong option, folder or checkpoint, or a run that diverged."""

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


class TrainingError(ValueError):
    """One sentence that names what was found and what to do; printed without a traceback."""


@contextmanager
def as_written(path: Path, run: Path) -> Iterator[None]:
    """Raises `TrainingError` where a file of `run`, to be resumed, holds something else than training wrote."""
    try:
        yield
    except DAMAGE as error:
        raise TrainingError(
            f"--resume: {path} is not what training wrote ({' '.join(str(error).split())[:200]}): restore it, or "
            f"start a new run with --checkpoint {run / 'best'}."
        ) from error
