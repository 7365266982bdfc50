"""The error of everything a person can mend: a wrong option, folder or checkpoint, or a run that diverged."""

from contextlib import AbstractContextManager
from pathlib import Path

from boustro.data_scripts.errors import as_written


class TrainingError(ValueError):
    """One sentence that names what was found and what to do; printed without a traceback."""


def resuming_from(path: Path, run: Path) -> AbstractContextManager[None]:
    """Raises `DataError` where a file of `run`, to be resumed, holds something else than training wrote."""
    return as_written(f"--resume: {path}", f"restore it, or start a new run with --checkpoint {run / 'best'}")
