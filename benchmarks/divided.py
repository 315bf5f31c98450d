"""The preset with something else in one place, to compare: other clusters, or steps left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.guidance import Representativeness, clusters
from dap.guidance.base import Shift
from dap.noise import neighbours
from dap.reference import Reference
from dap.types import Unit


@dataclass(frozen=True, kw_only=True)
class Divided(Representativeness):
    """The preset with other clusters.

    rows   pixels, as `dap` has them, or features: of the tap, at the last noise level but one
    equal  of equal size, as `dap` has them; else plain k-means, the preset's before: outliers get images of their own
    """

    rows: str = "pixels"
    equal: bool = False

    def shares(self, reference: Reference, label: int) -> Tensor | None:
        """W [ipc, N], found once."""
        if label not in reference.divided:
            x_0 = reference.latents(label)
            rows = x_0 if self.rows == "pixels" else reference.features(label, reference.anchor_steps[-2])
            partner = neighbours(x_0.flatten(1))
            with patch.object(clusters, "_members", clusters._members if self.equal else kmeans_members):
                reference.divided[label] = clusters.cluster_weights(rows.flatten(1), reference.ipc, partner=partner)
        return reference.divided[label]


@dataclass(frozen=True, kw_only=True)
class Sparse(Representativeness):
    """Only every so many steps are guided (all are computed: for what it is worth, not for what it costs)."""

    every: int = 2

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """As ever at steps 0, `every`, 2 `every`, ...; else no shift."""
        shift = super().prepare(backbone, reference)
        return lambda step: shift(step) if step.index % self.every == 0 else torch.zeros_like(step.x_prev)


@dataclass(frozen=True, kw_only=True)
class Blurred(Representativeness):
    """The preset, which begins at the mean image of its cluster, not at a real one."""

    def starts(self, reference: Reference, units: Sequence[Unit]) -> Tensor:
        """x_0 [B, C, H, W], one a unit."""
        means = {}
        for label in {unit.label for unit in units}:
            x_0, weights = reference.latents(label), self.shares(reference, label)
            if weights is None:
                raise ValueError("fewer real images than synthetic ones")
            means[label] = torch.einsum("in,n...->i...", weights.to(x_0), x_0)
        return torch.stack([means[unit.label][unit.index] for unit in units])


def kmeans_members(flat: Tensor, count: int, seed: int) -> Tensor:
    """The cluster of each row, int64 [N]: k-means; one left empty takes the row farthest from its centre."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it warns of duplicates
        found = KMeans(count, n_init=4, random_state=seed).fit(flat.numpy())
    member = torch.from_numpy(found.labels_).long()
    distance = (flat - torch.from_numpy(found.cluster_centers_)[member]).norm(dim=1)
    for empty in [k for k in range(count) if not (member == k).any()]:
        sizes = torch.bincount(member, minlength=count)
        member[int(torch.where(sizes[member] > 1, distance, -1.0).argmax())] = empty
    return member
