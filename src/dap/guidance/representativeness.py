"""DAP: representativeness guidance with the diffusion model's own features (Su et al., ICLR 2026, eq. 6, 7, Alg. 1).

With E the energy of a class's synthetic images to its real ones at the step's noise level (`dap.guidance.energy`):

    g_t     = - dE / dx_t
    x_{t-1} = x~_{t-1} + gamma * g_t                                               `gamma`, the paper's way
    x_{t-1} = x~_{t-1} + r * |x~_{t-1} - x_t| / |g_t| * g_t      image by image    `strength` r
    x_{t-1} = x~_{t-1} + (E - E*) / |g_t|^2 * g_t                                  `strength` "auto"

"auto" is Polyak's step (1987): to first order it takes E down to E*, whatever the backbone, the layer, the kernel and
the number of dimensions, and nothing once E is there. E* comes from the real images alone, at the same noise level:

    E* = E_r - (1 + b) (E_r - E_s)     E_r: of I real images drawn at random, on average;  E_s: of the first I of those
                                       that stand for the class (with clusters: one of each), but never above E_r

so b = 0 asks for a set as good as such a choice of real images, b = 1 (`beyond`) for twice that gain over chance. No
image is moved farther than `reach` of its denoising step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.errors import BackboneError, unknown
from dap.guidance.base import Shift, rows_of_classes
from dap.guidance.clusters import clusters_of, middles_of
from dap.guidance.options import START, Options
from dap.guidance.taps import best_tap
from dap.kernels import TINY
from dap.types import Step, Unit

if TYPE_CHECKING:
    from dap.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Representativeness(Options):
    """The guidance, from its options."""

    def resolved(self, backbone: Backbone) -> Representativeness:
        """With the backbone's recommended tap when none was named; BackboneError for a tap that it lacks."""
        tap = self.tap or backbone.default_tap
        if tap != "auto" and tap not in backbone.taps():
            raise BackboneError(unknown(f"tap of {backbone.name}", tap, backbone.taps()) + "; or auto")
        return replace(self, tap=tap)

    def decided(self, reference: Reference) -> Representativeness:
        """With the tap that the real images speak for, where it was left to them; no contrast where none is felt."""
        tap = best_tap(reference) if self.tap == "auto" else self.tap
        contrast = self.contrast if reference.negative_pool else 0.0
        return replace(self, tap=tap, repulsion=self.repulsion_of(reference.ipc), contrast=contrast)

    def repulsion_of(self, ipc: int) -> float:
        """lambda of a set of so many images a class: of few, a whole one would drive each to the edge of its class."""
        return round(min(0.07 * ipc, 0.7), 4) if isinstance(self.repulsion, str) else self.repulsion

    def start_of(self, ipc: int, backbone: Backbone, steps: int) -> float:
        """The share of `steps` that `start` "auto" takes: .5; 5/IPC, at least .1 and four steps, of images that couple
        and of a backbone trained from nothing.

        Such a one loses more of an image on its way than guidance brings, once many share a class (docs/choices.md).
        """
        late = self.couples and getattr(backbone, "from_scratch", False)
        return round(min(START, max(0.1, 5 / ipc, 4 / steps)), 4) if late else START

    def starts(self, reference: Reference, units: Sequence[Unit]) -> Tensor:
        """x_0 [B, C, H, W] for `start`: of cluster i the one nearest to its mean; or the i-th real one."""
        x_0 = {}
        for label in {unit.label for unit in units}:
            real, shares = reference.latents(label), self.shares(reference, label)
            x_0[label] = real if shares is None else middles_of(real, shares)
        return torch.stack([x_0[unit.label][unit.index % len(x_0[unit.label])] for unit in units])

    def shares(self, reference: Reference, label: int) -> Tensor | None:
        """W [ipc, N] of the clustered reference; None: every image sees all real ones."""
        return clusters_of(reference, label) if self.reference == "cluster" else None

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """The shift of a step; `reference` gives the real features of each class at the step's noise level."""
        decided = replace(self, repulsion=self.repulsion_of(reference.ipc))

        def shift(step: Step) -> Tensor:
            if step.features is None:
                raise AssertionError("the loop gives features to a guidance with a tap")
            rows = self.pooling.rows(step.features)
            slope, gap = torch.zeros_like(rows), rows.new_zeros(len(rows))
            for label, where in rows_of_classes(step):
                shares = self.shares(reference, label)
                w = None if shares is None else shares[[step.units[row].index for row in where]]
                far = reference.negatives(label, step.index) if self.contrast else None
                slope[where], gap[where] = decided.pull(rows[where], reference.parts(label, step.index), w, far)
            g_t = -step.pull_back(self.pooling.back(slope, step.features))
            return self.scaled(g_t, gap, step)

        return shift

    def pull(
        self,
        synthetic: Tensor,
        parts: Iterable[Tensor],
        weights: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """dE/dphi [I, F] of one class's synthetic rows, and how far E is above E* [I] (0 unless "auto").

        parts      the real rows [n, F] in parts, all float32
        weights    [I, N] of the clustered reference
        negatives  [L, F], rows of other classes
        """
        # One by one where images do not couple: a matrix product's last bits depend on how many rows it has.
        sets = [synthetic] if self.couples else list(synthetic.split(1))
        if self.strength != "auto":
            found = self.energy.slope(sets, parts, weights, negatives)
            return torch.cat(found.slopes), synthetic.new_zeros(len(synthetic))
        parts = iter(parts)
        first = next(parts)
        count = len(sets[0])
        found = self.energy.slope(sets, itertools.chain([first], parts), weights, negatives)
        chance, best = (energy / count for energy in self.energy.yardsticks(first, count, weights, negatives))
        goal = chance - (1 + self.beyond) * (chance - best.clamp_max(chance))  # an image's share
        gaps = [(energy - goal).sum().expand(len(energy)) for energy in found.energies]
        return torch.cat(found.slopes), torch.cat(gaps)

    def scaled(self, g_t: Tensor, gap: Tensor, step: Step) -> Tensor:
        """The shift [B, C, H, W] along g_t, by gamma, by `strength`, or by Polyak's step from the gap [B]."""
        if self.gamma is not None:
            return self.gamma * g_t
        move = (step.x_prev - step.x_t).flatten(1).norm(dim=1)
        length = g_t.flatten(1).norm(dim=1).clamp_min(TINY)
        if self.strength != "auto":
            factor = self.scale * move / length
        else:
            square = length.square()
            if self.couples:
                for _, where in rows_of_classes(step):
                    square[where] = square[where].sum()
            factor = torch.minimum(gap.clamp_min(0) / square, self.reach * move / length)
        shift: Tensor = factor.view(-1, 1, 1, 1) * g_t
        return shift
