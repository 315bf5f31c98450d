"""`Plan`: one training run in numbers, and the learning rate at every step of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


def _multistep(step: int, steps: int, steps_per_epoch: int) -> float:
    epoch, epochs = step // steps_per_epoch, steps // steps_per_epoch
    return 0.2 ** ((epoch >= 2 * epochs // 3) + (epoch >= 5 * epochs // 6))


def _cosine(step: int, steps: int, steps_per_epoch: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _cosine_by_epoch(step: int, steps: int, steps_per_epoch: int) -> float:
    return _cosine(step // steps_per_epoch, steps // steps_per_epoch, 1)


def _half_cosine_by_epoch(step: int, steps: int, steps_per_epoch: int) -> float:
    return _cosine(step // steps_per_epoch, 2 * (steps // steps_per_epoch), 1)


# (step, steps, steps per epoch) -> share of the base rate
SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "multistep": _multistep,
    "cosine": _cosine,
    "cosine-by-epoch": _cosine_by_epoch,
    "half-cosine-by-epoch": _half_cosine_by_epoch,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run in numbers. Steps count from 0; `epochs` is None where rows are drawn with
    replacement.
    """

    epochs: int | None
    steps: int
    steps_per_epoch: int
    batch: int
    images: int
    rate: float
    weight_decay: float
    schedule: str
    evaluate_every: int

    def rate_at(self, step: int) -> float:
        """The learning rate of step 0 .. steps - 1."""
        return self.rate * SCHEDULES[self.schedule](step, self.steps, self.steps_per_epoch)

    def evaluates_after(self, step: int) -> bool:
        """Whether the test data are looked at after this step: regularly, and always at the end."""
        return (step + 1) % self.evaluate_every == 0 or step + 1 == self.steps

    @property
    def evaluations(self) -> int:
        """How many times that is in one run."""
        return math.ceil(self.steps / self.evaluate_every)

    @property
    def leaves_one(self) -> bool:
        """Whether some batches hold a single image."""
        return self.batch == 1 or (self.epochs is not None and self.images % self.batch == 1)
