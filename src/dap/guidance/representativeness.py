"""DAP: representativeness guidance with the diffusion model's own features (Su et al., ICLR 2026, eq. 6, 7, Alg. 1).

With E the energy of a class's synthetic images to its real ones at the step's noise level (`dap.guidance.energy`):

    g_t     = - dE / dx_t
    x_{t-1} = x~_{t-1} + gamma * g_t                                               `gamma`, the paper's way
    x_{t-1} = x~_{t-1} + r * |x~_{t-1} - x_t| / |g_t| * g_t      image by image    `strength` r
    x_{t-1} = x~_{t-1} + (E - E*) / |g_t|^2 * g_t                                  `strength` "auto"

"auto" is Polyak's step (1987): to first order it takes E down to E*, whatever the backbone, the layer, the kernel and
the number of dimensions, and nothing once E is there. E* comes from the real images alone, at the same noise level:

    E* = E_r - (1 + b) (E_r - E_s)     E_r: of I real images drawn at random, on average;  E_s: of I support points
                                       (with clusters: one image of each), but never above E_r

so b = 0 asks for a set as good as the best choice of real images, b = 1 (`beyond`) for twice that gain over chance. No
image is moved farther than `reach` of its denoising step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.config import require
from dap.errors import BackboneError, unknown
from dap.guidance.base import Shift, rows_of_classes
from dap.guidance.clusters import clusters_of, middles_of
from dap.guidance.energy import Energy
from dap.guidance.taps import best_tap
from dap.kernels import TINY, check_kernel_name
from dap.pooling import Pooling
from dap.types import Step, Unit

if TYPE_CHECKING:
    from dap.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Representativeness:
    """Options of the guidance; exactly one of `gamma` and `strength`.

    tap         layer of the backbone, e.g. block.3; None: what the backbone recommends; "auto": `guidance.taps`
    kernel      linear, rbf, laplace, polynomial, cosine, or an import path package.module:name
    bandwidth   of rbf and laplace; None: the median distance of the class's real features, at each step
    pool        flatten (every token's features) or mean (their average over tokens)
    projection  features by a random projection to so many numbers; None: all of them
    gamma       absolute step length along g_t (the paper: 1.0)
    strength    step length as a share of the denoising step's own length, image by image; or "auto"
    beyond      b of "auto": how far below the support points' energy, in units of their gain over chance
    reach       of "auto": the largest share of the denoising step's length
    repulsion   lambda, 0 or more; or "auto": .07 for each image of a class, up to .7 (docs/results.md)
    contrast    mu, 0 or more, below 1 unless "auto": the push away from other classes, mu/I an image (`dap.negatives`)
    power       p, 1 or 2
    interval    share of the trajectory in which it acts; (0, 1) leaves out the last step
    reference   class (every image sees all real ones) or cluster (image i sees cluster i of IPC)
    reference_size  real images of a class that stand for it, its support points (`dap.support`); None or "all": all
    reference_spacing  most, in sqrt(t / T), between the noise levels at which real features are computed; 0: every step
    """

    tap: str | None = None
    kernel: str = "linear"
    bandwidth: float | None = None
    pool: str = "flatten"
    projection: int | None = None
    gamma: float | None = None
    strength: float | str | None = None
    beyond: float = 1.0
    reach: float = 0.5
    repulsion: float | str = 0.0
    contrast: float = 0.0
    power: int = 1
    interval: tuple[float, float] = (0.0, 1.0)
    reference: str = "class"
    reference_size: int | str | None = None
    reference_spacing: float = 0.14

    def __post_init__(self) -> None:
        check_kernel_name(self.kernel)
        one = (self.gamma is None) != (self.strength is None)
        got = f"got gamma={self.gamma} and strength={self.strength}"
        require(one, f"guidance needs either gamma or strength, {got}; e.g. --set guidance.strength=auto")
        auto = self.strength == "auto"
        require(
            auto or not isinstance(self.strength, str),
            f"guidance.strength is {self.strength!r}; use a number such as 0.3, or auto",
        )
        self._check_numbers()
        require(auto or self.scale >= 0, f"guidance gamma or strength is {self.scale}; use 0 (off) or more")
        require(self.pool in ("flatten", "mean"), f"guidance.pool is {self.pool!r}; use 'flatten' or 'mean'")
        require(self.beyond >= 0, f"guidance.beyond is {self.beyond}; use 0 (as good as support points) or more")
        require(self.reach > 0, f"guidance.reach is {self.reach}; use a number above 0")
        require(
            self.repulsion == "auto" or (not isinstance(self.repulsion, str) and self.repulsion >= 0),
            f"guidance.repulsion is {self.repulsion}; use 0 (the paper) or more, 1 for the energy distance, or auto",
        )
        bounded = 0 <= self.contrast < 1 or (auto and self.contrast >= 1)  # from 1 on, only a goal ends the push
        require(bounded, f"guidance.contrast is {self.contrast}; use 0 (off) to less than 1, or strength=auto")
        require(self.power in (1, 2), f"guidance.power is {self.power}; use 1 or 2")
        known = ("class", "cluster")
        require(self.reference in known, f"guidance.reference is {self.reference!r}; use 'class' or 'cluster'")

    def _check_numbers(self) -> None:
        for name in ("gamma", "strength", "beyond", "reach", "repulsion", "contrast", "bandwidth"):
            given = getattr(self, name)
            require(not isinstance(given, float) or isfinite(given), f"guidance.{name} is {given}; use a finite number")
        for name, value in (("reference_size", self.reference_size), ("projection", self.projection)):
            fits = value is None or (value == "all" if isinstance(value, str) else value >= 1)
            everything = "all" if name == "reference_size" else "leave it out for all"
            require(fits, f"guidance.{name} is {value}; use 1 or more, or {everything}")
        require(
            self.bandwidth is None or self.bandwidth > 0,
            f"guidance.bandwidth is {self.bandwidth}; use a number above 0",
        )
        require(
            0 <= self.reference_spacing <= 1,
            f"guidance.reference_spacing is {self.reference_spacing}; use 0 (every step) to 1, in sqrt(t / T)",
        )
        require(
            0 <= self.interval[0] < min(1, self.interval[1]),
            f"guidance.interval is {list(self.interval)}; use [start, end] with 0 <= start < end, e.g. [0, 0.8]",
        )

    @property
    def scale(self) -> float:
        """gamma or strength, whichever is set; 1 for "auto"."""
        if self.strength == "auto":
            return 1.0
        return self.gamma if self.gamma is not None else float(self.strength or 0.0)

    @property
    def off(self) -> bool:
        """Scale zero takes the unguided path."""
        return self.scale == 0

    @property
    def couples(self) -> bool:
        """With repulsion the images of a class see each other; with clusters they share them out."""
        return self.repulsion != 0 or self.reference == "cluster"

    @property
    def pooling(self) -> Pooling:
        """How features become rows."""
        return Pooling(pool=self.pool, projection=self.projection)

    @property
    def energy(self) -> Energy:
        """E, with the options that shape it."""
        names = ("kernel", "bandwidth", "repulsion", "power", "contrast")
        return Energy(**{name: getattr(self, name) for name in names})

    def resolved(self, backbone: Backbone) -> Representativeness:
        """With the backbone's recommended tap when none was named; BackboneError for a tap that it lacks."""
        tap = self.tap or backbone.default_tap
        if tap != "auto" and tap not in backbone.taps():
            raise BackboneError(unknown(f"tap of {backbone.name}", tap, backbone.taps()) + "; or auto")
        return replace(self, tap=tap)

    def decided(self, reference: Reference) -> Representativeness:
        """With the tap that the real images speak for, where it was left to them; no contrast where none is felt."""
        tap = best_tap(reference, self.interval) if self.tap == "auto" else self.tap
        contrast = self.contrast if reference.negative_pool else 0.0
        return replace(self, tap=tap, repulsion=self.repulsion_of(reference.ipc), contrast=contrast)

    def repulsion_of(self, ipc: int) -> float:
        """lambda of a set of so many images a class: of few, a whole one would drive each to the edge of its class."""
        return round(min(0.07 * ipc, 0.7), 4) if isinstance(self.repulsion, str) else self.repulsion

    def starts(self, reference: Reference, units: Sequence[Unit]) -> Tensor:
        """x_0 [B, C, H, W] for `[sampling] start`: of cluster i the one nearest to its mean; or the i-th real one."""
        x_0 = {unit.label: reference.latents(unit.label) for unit in units}
        if self.reference == "cluster":
            x_0 = {label: middles_of(reference, label) for label in x_0}
        return torch.stack([x_0[unit.label][unit.index % len(x_0[unit.label])] for unit in units])

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """The shift of a step; `reference` gives the real features of each class at the step's noise level."""
        weights: dict[int, Tensor | None] = {}
        decided = replace(self, repulsion=self.repulsion_of(reference.ipc))

        def shift(step: Step) -> Tensor:
            if step.features is None:
                raise AssertionError("the loop gives features to a guidance with a tap")
            rows = self.pooling.rows(step.features)
            slope, gap = torch.zeros_like(rows), rows.new_zeros(len(rows))
            for label, where in rows_of_classes(step):
                if self.reference == "cluster" and label not in weights:
                    weights[label] = clusters_of(reference, label)
                chosen = [step.units[row].index for row in where]
                shares = weights.get(label)
                w = None if shares is None else shares[chosen]
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
