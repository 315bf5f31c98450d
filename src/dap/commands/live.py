"""What is to be seen while a long distillation runs: a line of numbers, and the last pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dap.data.decode import decode, pixels
from dap.distillation import Event
from dap.pictures import grid, save_png
from dap.store import Store
from dap.types import Unit

MOST_PICTURES = 10
SMALLEST_SIDE = 64


class Pace:
    """The line beside the bar: chunks, images, images per second since the first event, current D_K."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def of(self, event: Event) -> str:
        """What to say of this moment."""
        under_way = len(event.units) * event.step / event.steps if event.step < event.steps else 0
        done, now = event.images + under_way, time.monotonic()
        before, began = self._first = self._first or (done, now)
        parts = [f"chunk {event.chunk + 1} of {event.chunks}", f"{event.images} of {event.images_planned} images"]
        parts += [f"{(done - before) / (now - began):.3g} images/s"] if now > began and done > before else []
        parts += [f"D_K {event.distance:.3g}"] if event.distance is not None else []
        return ", ".join(parts)


def show_last(store: Store, units: Sequence[Unit]) -> Path:
    """DIR/preview.png: the pictures of a chunk that was just finished, up to ten side by side."""
    files = [(store.path / store.file_of(unit)).read_bytes() for unit in units[:MOST_PICTURES]]
    images = torch.stack([torch.from_numpy(pixels(decode(data, "RGB")).copy()) for data in files])
    strip = grid(images, len(images), scale=max(1, SMALLEST_SIDE // images.shape[-1]))
    return save_png(strip, store.path / "preview.png")
