"""DAP: representativeness guidance with the diffusion model's own features (Su et al., ICLR 2026, eq. 6, 7, Alg. 1).

For the I images s_i of a class and its N real images t_j, both as features at the same noise level, and D the distance
that a kernel induces:

    E(S) = sum_i [ 1/N sum_j D(s_i, t_j)^p  -  lambda/2 * 1/(I-1) sum_{j != i} D(s_i, s_j)^p ]
    g_t  = - dE / dx_t
    x_{t-1} = x~_{t-1} + gamma * g_t                                            `gamma`, the paper's way
    x_{t-1} = x~_{t-1} + r * |x~_{t-1} - x_t| / |g_t| * g_t   image by image   `strength` r, carries to other models

`power` p = 1 and `repulsion` lambda = 0 is the paper. lambda = 1 makes E, up to a constant, I/2 times the energy
distance of the set to the class (p = 1) or I times the squared MMD of the kernel (p = 2), in the unbiased form: the set
is pulled to the class as a whole instead of every image to the same centre. The second term is 0 at I = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.config import require
from dap.errors import BackboneError, unknown
from dap.guidance.base import Shift
from dap.kernels import (
    SHIFT_INVARIANT,
    TINY,
    Kernel,
    check_kernel_name,
    distance,
    make_kernel,
    squared_distance,
)
from dap.types import Step

if TYPE_CHECKING:
    from dap.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Representativeness:
    """Options of the guidance; exactly one of `gamma` and `strength`.

    tap         layer of the backbone, e.g. block.3; None: what the backbone recommends
    kernel      linear, rbf, laplace, polynomial, cosine, or an import path package.module:name
    bandwidth   of rbf and laplace; None: the median distance of the class's real features, at each step
    pool        flatten (every token's features) or mean (their average over tokens)
    gamma       absolute step length along g_t (the paper: 1.0)
    strength    step length as a share of the denoising step's own length, image by image
    repulsion   lambda, 0 or more
    power       p, 1 or 2
    interval    share of the trajectory in which it acts; (0, 1) leaves out the last step
    reference_size  real images of a class that stand for it, a seeded random choice; None: all
    """

    tap: str | None = None
    kernel: str = "linear"
    bandwidth: float | None = None
    pool: str = "flatten"
    gamma: float | None = None
    strength: float | None = None
    repulsion: float = 0.0
    power: int = 1
    interval: tuple[float, float] = (0.0, 1.0)
    reference_size: int | None = None

    def __post_init__(self) -> None:
        check_kernel_name(self.kernel)
        require(
            (self.gamma is None) != (self.strength is None),
            f"guidance needs either gamma or strength, got gamma={self.gamma} and strength={self.strength}; "
            "e.g. --set guidance.strength=0.3",
        )
        require(self.scale >= 0, f"guidance gamma or strength is {self.scale}; use 0 (off) or more")
        require(self.pool in ("flatten", "mean"), f"guidance.pool is {self.pool!r}; use 'flatten' or 'mean'")
        require(
            self.repulsion >= 0,
            f"guidance.repulsion is {self.repulsion}; use 0 (the paper) to 1 (energy distance)",
        )
        require(self.power in (1, 2), f"guidance.power is {self.power}; use 1 or 2")
        require(
            self.reference_size is None or self.reference_size >= 1,
            f"guidance.reference_size is {self.reference_size}; use 1 or more, or leave it out for all real images",
        )
        require(
            self.bandwidth is None or self.bandwidth > 0,
            f"guidance.bandwidth is {self.bandwidth}; use a number above 0",
        )
        require(
            0 <= self.interval[0] < min(1, self.interval[1]),
            f"guidance.interval is {list(self.interval)}; use [start, end] with 0 <= start < end, e.g. [0, 0.8]",
        )

    @property
    def scale(self) -> float:
        """gamma or strength, whichever is set."""
        return self.gamma if self.gamma is not None else self.strength or 0.0

    @property
    def off(self) -> bool:
        """Scale zero takes the unguided path."""
        return self.scale == 0

    @property
    def couples(self) -> bool:
        """With repulsion the images of a class see each other."""
        return self.repulsion > 0

    def resolved(self, backbone: Backbone) -> Representativeness:
        """With the backbone's recommended tap when none was named; BackboneError for a tap that it lacks."""
        tap = self.tap or backbone.default_tap
        if tap not in backbone.taps():
            raise BackboneError(unknown(f"tap of {backbone.name}", tap, backbone.taps()))
        return replace(self, tap=tap)

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """The shift of a step; `reference` gives the real features of each class at the step's noise level."""
        tap = self.resolved(backbone).tap
        if tap is None:
            raise AssertionError("resolved always names a tap")

        def shift(step: Step) -> Tensor:
            if step.features is None:
                raise AssertionError("the loop gives features to a guidance with a tap")
            features = pooled(step.features, self.pool)
            slope = torch.zeros_like(features)
            for label, rows in rows_of_classes(step):
                real = pooled(reference.features(label, step.index, step.t, tap), self.pool)
                slope[rows] = self.slope(features[rows], real)
            g_t = -step.pull_back(unpooled(slope, step.features, self.pool))
            return self.scaled(g_t, step)

        return shift

    def slope(self, synthetic: Tensor, real: Tensor) -> Tensor:
        """dE/dphi [I, F] at synthetic features [I, F] and real features [N, F], all float32."""
        if self.kernel in SHIFT_INVARIANT:
            centre = real.mean(0)
            synthetic, real = synthetic - centre, real - centre
        kernel = make_kernel(self.kernel, real, self.bandwidth)
        # One by one where images do not couple: a matrix product's last bits depend on how many rows it has.
        parts = [synthetic] if self.couples else synthetic.split(1)
        return torch.cat([self._gradient(part, real, kernel) for part in parts])

    def _gradient(self, synthetic: Tensor, real: Tensor, kernel: Kernel) -> Tensor:
        leaf = synthetic.detach().requires_grad_()
        with torch.enable_grad():
            energy = set_energy(leaf, real, kernel, repulsion=self.repulsion, power=self.power)
        gradient: Tensor = torch.autograd.grad(energy, leaf)[0]
        return gradient

    def scaled(self, g_t: Tensor, step: Step) -> Tensor:
        """gamma * g_t, or g_t at the relative length `strength`; [B, C, H, W]."""
        if self.gamma is not None:
            return self.gamma * g_t
        move = (step.x_prev - step.x_t).flatten(1).norm(dim=1)
        length = g_t.flatten(1).norm(dim=1).clamp_min(TINY)
        scaled: Tensor = (self.scale * move / length).view(-1, 1, 1, 1) * g_t
        return scaled


def set_energy(synthetic: Tensor, real: Tensor, kernel: Kernel, *, repulsion: float, power: int) -> Tensor:
    """E(S), a scalar, of synthetic features [I, F] to real ones [N, F]: the formula at the top of this file."""
    metric = squared_distance if power == 2 else distance
    energy = metric(kernel, synthetic, real).mean(1).sum()
    count = len(synthetic)
    if repulsion and count > 1:
        apart = metric(kernel, synthetic, synthetic)
        others = ~torch.eye(count, dtype=torch.bool, device=apart.device)
        energy = energy - repulsion / 2 * (apart[others].sum() / (count - 1))
    return energy


def pooled(features: Tensor, pool: str) -> Tensor:
    """Features [B, tokens, width] or [B, width, h, w] -> float32 rows [B, F]."""
    if pool == "flatten":
        return features.flatten(1).float()
    return (features.mean(1) if features.dim() == 3 else features.mean((2, 3))).float()


def unpooled(slope: Tensor, features: Tensor, pool: str) -> Tensor:
    """dE/dpooled [B, F] -> dE/dfeatures in the shape of `features`."""
    if pool == "flatten":
        return slope.view(features.shape)
    per_place = slope[:, None, :] if features.dim() == 3 else slope[:, :, None, None]
    places = features.shape[1] if features.dim() == 3 else features.shape[2] * features.shape[3]
    return (per_place / places).expand(features.shape)


def rows_of_classes(step: Step) -> list[tuple[int, list[int]]]:
    """(label, its rows) for every class of the step's chunk, in order of appearance."""
    rows: dict[int, list[int]] = {}
    for row, unit in enumerate(step.units):
        rows.setdefault(unit.label, []).append(row)
    return list(rows.items())
