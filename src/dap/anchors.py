"""Anchors: the steps at which the real images' features are computed; at those in between they lie on the line.

A row keeps its noise at all steps, so its features follow x_t smoothly, and x_t leaves x_0 with the square root of
1 - alpha_bar, which is near enough a square root of t: in s = sqrt(t / T) features hardly bend. Measured in
docs/guidance.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors among the steps of a chain, and where each step lies between them.

    levels  s = sqrt(t / T) of every step of the chain, falling
    steps   the anchors, rising
    """

    levels: tuple[float, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, timesteps: Sequence[int], trained: int, inside: Sequence[int], spacing: float) -> Anchors:
        """Of a chain over T = `trained` levels, for the steps `inside` it: as few as lie at most `spacing` apart in s.

        The first and the last step are anchors, those in between are the nearest to an even division; 0: every step.
        """
        levels = tuple(sqrt(t / trained) for t in timesteps)
        if spacing <= 0 or len(inside) < 2:
            return cls(levels, tuple(inside))
        first, last = levels[inside[0]], levels[inside[-1]]
        parts = max(1, ceil((first - last) / spacing - 1e-9))
        wanted = [first + (last - first) * k / parts for k in range(parts + 1)]
        nearest = {min(inside, key=lambda i: abs(levels[i] - level)) for level in wanted}
        return cls(levels, tuple(sorted(nearest)))

    def around(self, index: int) -> tuple[int, int, float]:
        """The anchors between which a step lies, and how far from the first, 0 .. 1; a step outside is its own."""
        if not self.steps or not self.steps[0] <= index <= self.steps[-1]:
            return index, index, 0.0
        at = bisect_right(self.steps, index) - 1
        low, high = self.steps[at], self.steps[min(at + 1, len(self.steps) - 1)]
        if high == low:
            return low, low, 0.0
        return low, high, (self.levels[low] - self.levels[index]) / (self.levels[low] - self.levels[high])
