"""Negatives: a few real images of other classes, from which a guidance pushes the images of a class away.

One pool serves all classes, so that it is extracted once for all of them and its size does not grow with their number:

    K <= m   of each of the K classes the first ceil(m / (K - 1)) of the real images that stand for it, or all of them;
             a class sees those of the others
    K > m    one of each of m + 1 classes, evenly spread over the labels

The contrast is that of a set as a whole, mu / I for each of I images. Below 0.1 it is left out: at IPC 10 and 20 it was
worth nothing that could be measured and cost a tenth of the time (docs/guidance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

Pool = tuple[tuple[int, int], ...]  # (class, its first so many images)

NEGATIVES = 96  # m
LEAST = 0.1  # of mu / I, below which the contrast is left out


def negatives_wanted(guidance: Any, ipc: int) -> int:
    """m for a guidance whose `contrast` is felt by its images, `ipc` of them where they couple; else 0."""
    share = getattr(guidance, "contrast", 0.0) / (ipc if guidance.couples else 1)
    return NEGATIVES if share >= LEAST else 0


def pool_of(counts: Sequence[int], most: int) -> Pool:
    """The pool of classes with so many images each, `most` rows or a few more without any one class; () for none."""
    classes = len(counts)
    if most < 1 or classes < 2:
        return ()
    shown = min(classes, most + 1)
    labels = [label * classes // shown for label in range(shown)]
    each = ceil(most / (shown - 1))
    return tuple((label, min(each, counts[label])) for label in labels)
