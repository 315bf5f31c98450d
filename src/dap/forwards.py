"""How the rows of a class are cut into forward passes: equal ones, whatever parts the rows come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def equal_forwards(count: int, rows: int) -> list[int]:
    """The sizes of the fewest forwards of at most `rows` rows that take `count`, none more than one above another."""
    forwards = -(-count // rows)
    share, left = divmod(count, forwards)
    return [share + 1] * left + [share] * (forwards - left)


def recut(parts: Iterator[Tensor], sizes: Iterable[int]) -> Iterator[Tensor]:
    """Rows [n, ...] that come in parts, cut anew: a tensor for each of the sizes, together no more rows than there are.

    Never more is held than one part and one size.
    """
    waiting = next(parts)
    for size in sizes:
        while len(waiting) < size:
            waiting = torch.cat([waiting, next(parts)])
        yield waiting[:size]
        waiting = waiting[size:]
