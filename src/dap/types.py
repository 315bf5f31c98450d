"""The words that every room shares, and the legend of tensor shapes.

    B   rows of a batch: synthetic images, one row each          I   images of one class in a chunk
    C   channels of the space that diffusion runs in             N   real images of one class
    H W height and width in that space                           F   numbers of one image's pooled features

    images     float32 [B, c, h, w] in [0, 1]      only at the border of a backbone (`encode`, `decode`)
    x_t        float32 [B, C, H, W]                pixels scaled to [-1, 1], or VAE latents
    eps        float32 [B, C, H, W]                the model's estimate of the noise in x_t
    features   float   [B, tokens, width] or [B, width, h, w]      the output of the tapped layer at (x_t, t, class)
    t          int     the training timestep of a reverse step, 0 (clean) .. 999 (noise)

A *label* is the position of a class in the dataset that is distilled; a *condition* is the backbone's own name for the
same class (its row in the label table, a prompt). Only `data.classes.match_classes` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Unit:
    """One image to be made: image `index` of class `label`, drawn from the generator seeded with `seed`."""

    label: int
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images that are sampled in lock step and committed together."""

    id: int
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one forward pass gives: eps [B, C, H, W] without gradient, and the tapped features with their graph.

    variance  v [B, C, H, W] of a model with learned variance, about -1 .. 1: see `Chain.step`; None without one
    """

    eps: Tensor
    features: Tensor | None = None
    variance: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One reverse step as a guidance sees it, after the scheduler's own update.

    x_t       [B, C, H, W]  before the step
    x_prev    [B, C, H, W]  x~_{t-1}, what the scheduler made of it
    features  [B, ...]      of x_t at the guidance's tap, float32, detached; None when the guidance has no tap
    pull_back dE/dfeatures [B, ...] -> dE/dx_t [B, C, H, W], one vector-Jacobian product per micro-batch, each once
    index     reverse steps done before this one, 0 .. count - 1
    """

    index: int
    count: int
    t: int
    units: tuple[Unit, ...]
    x_t: Tensor
    x_prev: Tensor
    features: Tensor | None
    pull_back: Callable[[Tensor], Tensor]
