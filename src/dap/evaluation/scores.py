"""Means, standard deviations and confusion matrices of repeated runs. Accuracies are fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Score:
    """A number measured once a repeat. `sd` has ddof 1; a single value has none."""

    mean: float
    sd: float | None
    values: tuple[float, ...]

    def as_record(self) -> dict[str, Any]:
        """Fit for JSON: NaN does not occur."""
        return {"mean": self.mean, "sd": self.sd, "values": list(self.values)}


def score(values: Sequence[float]) -> Score:
    """Mean and standard deviation of at least one value."""
    return Score(fmean(values), stdev(values) if len(values) > 1 else None, tuple(values))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Score:
    """`ours` minus `theirs`, repeat by repeat: the seeds agree, so what a seed does to both cancels.

    Raises: ValueError for different numbers of repeats.
    """
    return score([a - b for a, b in zip(ours, theirs, strict=True)])


def pooled_sd(scores: Sequence[Score]) -> float | None:
    """The typical sd within several scores: the root of their mean variance; None where one has no sd."""
    spreads = [s.sd for s in scores if s.sd is not None]
    return math.sqrt(fmean(sd**2 for sd in spreads)) if len(spreads) == len(scores) and spreads else None


def class_accuracies(confusion: Tensor) -> list[float]:
    """Recall of each class from a confusion matrix [K, K] whose rows are true classes, none of them empty."""
    return (confusion.diagonal() / confusion.sum(1)).tolist()
