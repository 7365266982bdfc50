"""Ctrl-C and SIGTERM as a request to stop after the step under way."""

import signal
from types import FrameType


class StopRequest:
    """A context in which the first SIGINT or SIGTERM sets `made`; the second one acts as it always does."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.made = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        self._restore()
        print("\nboustro: stopping after this step (once more to stop at once) …", flush=True)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
