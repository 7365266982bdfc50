"""`datasets.map` in memory, batched; and when a bar shows the progress: not where there is no waiting."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import datasets
from datasets import Dataset

BATCH_ROWS = 256  # a row may be a whole file
ROWS_FOR_A_BAR = 20_000
BYTES_FOR_A_BAR = 50 << 20
BAR_DELAY = 5.0  # seconds: no bar where there is no waiting


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Hides the progress bars of `datasets` unless `shown`; what the user chose for them comes back after."""
    hide = not shown and datasets.is_progress_bar_enabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


def apply(
    dataset: Dataset,
    function: Callable[..., dict],
    *,
    description: str,
    num_proc: int = 1,
    remove_columns: list[str] | None = None,
    with_indices: bool = False,
    fn_kwargs: dict | None = None,
) -> Dataset:
    """Runs a batch function over the dataset; more than one process only where there are rows for them."""
    processes = min(num_proc, len(dataset))
    size = dataset.data.nbytes
    with progress_bars(len(dataset) >= ROWS_FOR_A_BAR or size >= BYTES_FOR_A_BAR):
        return dataset.map(
            function,
            batched=True,
            batch_size=BATCH_ROWS,
            desc=description,
            num_proc=processes if processes > 1 else None,
            remove_columns=remove_columns,
            with_indices=with_indices,
            fn_kwargs=fn_kwargs,
            keep_in_memory=True,
        )
