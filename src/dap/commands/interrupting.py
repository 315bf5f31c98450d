"""Ctrl-C, or what `kill` and a cluster's scheduler send, while something runs that is whole only between its steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within it the signal is noted for whoever asks between two steps; before the first, and the second time, it acts.

    Called, it says whether to stop. Outside the main thread, where nothing can be caught, it never does.
    """

    def __init__(self) -> None:
        self.asked, self._stepping = False, False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        self._stepping = True
        return self.asked

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            if before is not None:  # a handler that was not set from Python cannot be given back
                signal.signal(number, before)

    def _note(self, _: int, __: FrameType | None) -> None:
        if self.asked or not self._stepping:
            raise KeyboardInterrupt
        self.asked = True
