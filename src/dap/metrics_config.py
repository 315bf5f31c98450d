"""`[metrics]`: the settings of `dap measure`; `dap.config` has them with the other tables."""

from __future__ import annotations

from dataclasses import dataclass

from dap.fields import require

MOST_POINTS = 5000


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """`[metrics]`: the space in which sets are compared, and how much of it is drawn.

    features        tap (a layer of the diffusion backbone), pixels, torchvision:NAME or timm:NAME
    tap             the layer; None: the one that guided the set, else the backbone's recommended
    timestep        noise level of a tap, 0 (clean) .. 999 (noise); every image gets the same noise
    pool            flatten (every token's features) or mean (their average over tokens)
    reference_size  real images of a class that are looked at, a seeded random choice; None: all
    seed            of the noise, the choice of real images, the intervals and the map
    points          most points of a t-SNE map, 0 draws none
    """

    features: str = "tap"
    tap: str | None = None
    timestep: int = 100
    pool: str = "flatten"
    reference_size: int | None = None
    seed: int = 0
    points: int = MOST_POINTS

    def __post_init__(self) -> None:
        require(0 <= self.timestep <= 999, f"metrics.timestep is {self.timestep}; use 0 (no noise) to 999 (only noise)")
        require(self.pool in ("flatten", "mean"), f"metrics.pool is {self.pool!r}; use 'flatten' or 'mean'")
        least = 1 if self.reference_size is None else self.reference_size
        require(least >= 1, f"metrics.reference_size is {self.reference_size}; use 1 or more, or leave it out for all")
        fits = 0 <= self.points <= MOST_POINTS
        require(fits, f"metrics.points is {self.points}; use 0 (no map) to {MOST_POINTS}")
