"""Balanced noise for real images: what cancels in a sum over a few rows as it does in the mean over many draws.

Neighbours make a pair, one has the other's noise with its sign turned round (antithetic), and the pairs' noises are
orthogonal to each other. Sums over a class, or over a cluster of whole pairs, are free of the noise to first order.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dap.kernels import distance, linear

PAIRED = 512  # rows among which neighbours are looked for, and which have their noise drawn together
BLOCK = 256  # rows made orthogonal together, and never more than there are dimensions


def balanced(x_0: Tensor, seed: int) -> Tensor:
    """Noise [N, C, H, W] for the images x_0: each row of it is Gaussian, mean 0, variance 1."""
    return torch.cat(list(balanced_parts(x_0, seed)))


def balanced_parts(x_0: Tensor, seed: int) -> Iterator[Tensor]:
    """The same in parts of 512 rows, the last one shorter: no pair reaches from one into another."""
    draw = torch.Generator().manual_seed(seed)
    for block in x_0.split(PAIRED):
        partner = neighbours(block.flatten(1))
        first = (partner >= torch.arange(len(block))).nonzero().flatten()  # of each pair, and the one that is left over
        half = torch.randn((len(first), block[0].numel()), generator=draw)
        half = torch.cat([orthogonal(rows) for rows in half.split(min(half.shape[1], BLOCK))])
        noise = torch.empty(len(block), half.shape[1])
        noise[partner[first]] = -half
        noise[first] = half
        yield noise.view(block.shape).to(block)


def neighbours(rows: Tensor) -> Tensor:
    """The partner of each row [N, F], int64 [N]: the nearest two pair up first; of an odd number one is its own.

    Rounds in which those pair up who are each other's nearest; a class beyond 512 rows in blocks, in its order.
    """
    partner = torch.arange(len(rows))
    for place in partner.clone().split(PAIRED):
        block = rows[place].double().cpu()
        apart = distance(linear, block, block).round(decimals=5)  # else rounding tells twins apart
        left = torch.arange(len(block))
        while len(left) > 1:
            nearest = apart[left][:, left].fill_diagonal_(float("inf")).argmin(1)
            mutual = nearest[nearest] == torch.arange(len(left))
            partner[place[left[mutual]]] = place[left[nearest[mutual]]]
            left = left[~mutual]
    return partner


def orthogonal(rows: Tensor) -> Tensor:
    """Rows [n, d], n <= d, turned to be orthogonal; their lengths stay. Of Gaussian rows: each is still Gaussian."""
    directions, triangle = torch.linalg.qr(rows.T)
    signs = triangle.diagonal().sign()  # the decomposition's own choice of sign is no draw
    turned: Tensor = (directions * signs).T * rows.norm(dim=1, keepdim=True)
    return turned
