"""What is to be seen while a long distillation runs: a line of numbers, and the last pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dap.data.decode import decode, pixels
from dap.distillation import Event, Job
from dap.guidance import acts
from dap.pictures import grid, save_png
from dap.store import Store
from dap.types import Unit

MOST_PICTURES = 10
SMALLEST_SIDE = 64


def guided_steps(job: Job) -> tuple[bool, ...]:
    """By step that is taken, whether it is guided."""
    guidance, count = job.guidance, len(job.sampler.chain.timesteps)
    return tuple(guidance is not None and acts(guidance.interval, i, count) for i in job.taken)


class Pace:
    """The line beside the bar: chunks, images, images per second since the first event, current D_K; and the time left.

    guided  by step of a chain, whether it is guided: such a step costs several times another, so each kind is timed
    """

    def __init__(self, guided: Sequence[bool] = ()) -> None:
        self._guided = tuple(guided)
        self._first: tuple[float, float] | None = None
        self._before: float | None = None
        self._spent: dict[bool, list[float]] = {True: [0, 0.0], False: [0, 0.0]}  # guided -> steps, seconds

    def of(self, event: Event) -> str:
        """What to say of this moment."""
        under_way = len(event.units) * event.step / event.steps if event.step < event.steps else 0
        done, now = event.images + under_way, time.monotonic()
        self._count(event, now)
        before, began = self._first = self._first or (done, now)
        parts = [f"chunk {event.chunk + 1} of {event.chunks}", f"{event.images} of {event.images_planned} images"]
        parts += [f"{(done - before) / (now - began):.3g} images/s"] if now > began and done > before else []
        parts += [f"D_K {event.distance:.3g}"] if event.distance is not None else []
        return ", ".join(parts)

    def left(self, event: Event) -> float | None:
        """Seconds left behind the event that was told last; infinite while a kind of step that comes was not timed."""
        if len(self._guided) != event.steps:
            return None
        seconds = 0.0
        for kind, (steps, spent) in self._spent.items():
            here, chain = self._guided[event.step :].count(kind), self._guided.count(kind)
            ahead = here + chain * (event.chunks - event.chunk - 1)
            if ahead:
                seconds += ahead * spent / steps if steps else math.inf
        return seconds

    def _count(self, event: Event, now: float) -> None:
        if self._before is not None and not event.note and len(self._guided) == event.steps:
            kind = self._spent[self._guided[event.step - 1]]  # after a note the chunk began again: no step's time
            kind[0], kind[1] = kind[0] + 1, kind[1] + now - self._before
        self._before = now


def show_last(store: Store, units: Sequence[Unit]) -> Path:
    """DIR/preview.png: the pictures of a chunk that was just finished, up to ten side by side."""
    files = [(store.path / store.file_of(unit)).read_bytes() for unit in units[:MOST_PICTURES]]
    images = torch.stack([torch.from_numpy(pixels(decode(data, "RGB")).copy()) for data in files])
    strip = grid(images, len(images), scale=max(1, SMALLEST_SIDE // images.shape[-1]))
    return save_png(strip, store.path / "preview.png")
