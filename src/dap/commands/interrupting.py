"""Ctrl-C while something runs that is whole only between its steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """Within it Ctrl-C is noted for whoever asks between two steps; before the first, and the second time, it acts.

    Called, it says whether to stop. Outside the main thread, where nothing can be caught, it never does.
    """

    def __init__(self) -> None:
        self.asked, self._stepping = False, False
        self._before: Any = None

    def __call__(self) -> bool:
        self._stepping = True
        return self.asked

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _: int, __: FrameType | None) -> None:
        if self.asked or not self._stepping:
            raise KeyboardInterrupt
        self.asked = True
