"""Euclidean distances of feature rows, block by block: memory depends on the block, never on how many rows there are.

D_K of the linear kernel, D(x, y) = |x - y| (DAP, eq. 6). Rows are centred by the class mean before they are multiplied,
because |x|^2 + |y|^2 - 2 x.y in float32 keeps only what lies within about 1e-6 of the squared norms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = Any  # float32 [n, F] that can be sliced: a tensor, an array, or a memory map larger than memory

ROWS = 1024  # of a block on one side
NUMBERS = 2**24  # of a block in memory: 64 MiB
_ZERO = 4e-6  # of the squared norms: what float32 cannot tell from 0


@dataclass(frozen=True)
class Block:
    """d [n, m] of rows `first`.. of the one side to rows `second`.. of the other."""

    first: int
    second: int
    d: Tensor


def pairs(a: Rows, b: Rows, centre: Tensor, rows: int | None = None) -> Iterator[Block]:
    """All distances of rows a [n, F] to rows b [m, F], `rows` by `rows` of them at a time, row blocks in order."""
    size = rows or max(1, min(ROWS, NUMBERS // len(centre)))
    for i in range(0, len(a), size):
        left = taken(a, i, size) - centre
        for j in range(0, len(b), size):
            yield Block(i, j, distances(left, taken(b, j, size) - centre))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j| [n, m] of centred rows; 0 where float32 cannot tell."""
    norms = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
    squared = torch.addmm(norms, a, b.T, alpha=-2)
    return squared.masked_fill_(squared < _ZERO * norms, 0).sqrt_()


def mean_of(rows: Rows, size: int | None = None) -> Tensor:
    """The mean row [F], float32, summed in float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    size = size or max(1, NUMBERS // rows.shape[1])
    for i in range(0, len(rows), size):
        total += taken(rows, i, size).sum(0, dtype=torch.float64)
    return (total / len(rows)).float()


def taken(rows: Rows, start: int, count: int) -> Tensor:
    """Rows start .. start + count as a float32 tensor, copied out of a memory map."""
    part = rows[start : start + count]
    if isinstance(part, Tensor):
        return part.float()
    array: NDArray[np.float32] = np.array(part, dtype=np.float32)
    return torch.from_numpy(array)
