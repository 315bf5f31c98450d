"""`tap = "auto"`: the layer at which the real images of a class are nearest to each other and farthest from the rest.

For real image i of class c, noised to a level of the guidance's interval, and its mean distances d(i, k) to the other
images of class k at a layer, seen without a class (null condition: else the label would tell them apart):

    J(layer) = mean over i and levels of  (min_{k != c} d(i, k) - d(i, c)) / (min_{k != c} d(i, k) + d(i, c))

The layer with the largest J. Real images only, no labelled evaluation: 16 images of at most 10 classes at three levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.guidance.base import steps_inside

if TYPE_CHECKING:
    from dap.reference import Reference

IMAGES, CLASSES, LEVELS, TAPS = 16, 10, 3, 8


def best_tap(reference: Reference) -> str:
    """The tap of largest J; the backbone's recommended one where a class is alone, or no step is guided."""
    backbone = reference.backbone
    if len(reference.classes) < 2 or not _inside(reference):
        return backbone.default_tap
    score = {tap: separability(reference, tap) for tap in candidates(backbone.taps())}
    return max(score, key=score.__getitem__)


def candidates(taps: tuple[str, ...]) -> tuple[str, ...]:
    """At most 8 of them, evenly spread over the depth."""
    count = min(TAPS, len(taps))
    return tuple(dict.fromkeys(taps[round(i * (len(taps) - 1) / max(1, count - 1))] for i in range(count)))


def separability(reference: Reference, tap: str) -> float:
    """J of one layer, -1 .. 1."""
    inside = _inside(reference)
    levels = sorted({inside[round(k * (len(inside) - 1) / max(1, LEVELS - 1))] for k in range(LEVELS)})
    labels = [round(k * (len(reference.classes) - 1) / (CLASSES - 1)) for k in range(CLASSES)]
    found = [margins([_rows(reference, label, i, tap) for label in sorted(set(labels))]) for i in levels]
    return float(torch.cat(found).mean())


def margins(classes: list[Tensor]) -> Tensor:
    """(nearest other class - own class) / their sum, of the mean distances of every row of the classes' rows [n, F]."""
    rows = torch.cat(classes)
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    label = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor([len(c) for c in classes])).to(rows.device)
    member = torch.nn.functional.one_hot(label, len(classes)).float()
    others = member.sum(0) - member  # of each class, the row itself left out
    mean = apart @ member / others.clamp_min(1)
    own = (mean * member).sum(1)
    nearest = mean.masked_fill(member.bool(), float("inf")).min(1).values
    return (nearest - own) / (nearest + own).clamp_min(1e-12)


def _inside(reference: Reference) -> list[int]:
    return steps_inside(reference.interval, len(reference.chain.timesteps), reference.first)


def _rows(reference: Reference, label: int, index: int, tap: str) -> Tensor:
    backbone, x_0, t = reference.backbone, reference.latents(label), reference.chain.timesteps[index]
    x_t = reference.chain.noised(x_0, reference.noise(label, x_0), t)[:IMAGES]
    null = backbone.null_condition(1)
    parts = [backbone.tap_features(rows, t, null, tap) for rows in x_t.split(reference.rows)]
    return reference.pooling.rows(torch.cat(parts))
