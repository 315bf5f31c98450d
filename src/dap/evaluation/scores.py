"""Means, standard deviations and confusion matrices of repeated runs, and DD-Ranking's scores. All on fractions."""

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
    return (confusion.diagonal().double() / confusion.sum(1)).tolist()


def label_robust_score(
    synthetic: float, random: float, real_hard: float, synthetic_hard: float, weight: float = 0.5
) -> float:
    """LRS of DD-Ranking (arXiv 2505.13300), 0 to 1: what the images are worth beyond what the labels add.

    synthetic, random  accuracies of the set and of as many random real images, both under one protocol, of any labels
    real_hard          accuracy of the full real data under hard labels
    synthetic_hard     accuracy of the set under hard labels

        LRS = (e^a - e^-1) / (e - e^-1),  a = w IOR - (1 - w) HLR
        IOR = synthetic - random,  HLR = real_hard - synthetic_hard
    """
    return _ranked(weight * (synthetic - random) - (1 - weight) * (real_hard - synthetic_hard))


def augmentation_robust_score(
    synthetic: float, random: float, synthetic_plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """ARS of DD-Ranking, 0 to 1: what the images are worth over random real ones, with augmentation and without.

    synthetic, random  accuracies of the set and of as many random real images, under one protocol
    ..._plain          the same under that protocol without augmentation

        ARS = (e^b - e^-1) / (e - e^-1)
        b = w (synthetic - random) + (1 - w) (synthetic_plain - random_plain)
    """
    return _ranked(weight * (synthetic - random) + (1 - weight) * (synthetic_plain - random_plain))


def _ranked(advantage: float) -> float:
    """-1 .. 1 -> 0 .. 1, steeper for the better."""
    return (math.exp(advantage) - math.exp(-1)) / (math.e - math.exp(-1))
