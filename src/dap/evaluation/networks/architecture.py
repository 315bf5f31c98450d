"""What a network's name stands for, and how images are brought to a side that it can learn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """`build(classes, channels, size)` makes the network, freshly initialised.

    smallest  the least side in pixels that it can learn from
    multiple  sides are whole multiples of this
    only      the one side it works on; None: any
    """

    build: Callable[[int, int, int], nn.Module]
    smallest: int
    multiple: int = 1
    only: int | None = None

    def side(self, size: int) -> int:
        """The side in pixels that it works on, for images of `size`."""
        return self.only or self.multiple * math.ceil(max(size, self.smallest) / self.multiple)


class Resize(nn.Module):
    """[B, C, h, w] -> [B, C, side, side], bilinear, with antialias where images become smaller."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=self.side < x.shape[-1])
