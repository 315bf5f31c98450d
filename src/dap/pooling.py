"""`Pooling`: from the output of a tapped layer to one row an image, and a gradient's way back.

flatten     every token's features, the paper's choice as we read it
mean        their average over tokens
projection  then a random projection to k numbers (count sketch, Charikar et al. 2002): number f of a row is added
            to bucket h(f) with sign s(f), so that inner products and distances are kept on average
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How features become rows: `pool` "flatten" or "mean", and `projection` to so many numbers (None: all)."""

    pool: str = "flatten"
    projection: int | None = None

    def rows(self, features: Tensor) -> Tensor:
        """Features [B, tokens, width] or [B, width, h, w] -> float32 rows [B, F]."""
        if self.pool == "flatten":
            rows = features.flatten(1).float()
        else:
            rows = (features.mean(1) if features.dim() == 3 else features.mean((2, 3))).float()
        if self.projection is None or self.projection >= rows.shape[1]:
            return rows
        bucket, sign = _sketch(rows.shape[1], self.projection, rows.device)
        return rows.new_zeros(len(rows), self.projection).index_add_(1, bucket, rows * sign)

    def back(self, slope: Tensor, features: Tensor) -> Tensor:
        """dE/drows [B, F] -> dE/dfeatures in the shape of `features`."""
        whole = features[0].numel() if self.pool == "flatten" else features.shape[2 if features.dim() == 3 else 1]
        if self.projection is not None and self.projection < whole:
            bucket, sign = _sketch(whole, self.projection, slope.device)
            slope = slope[:, bucket] * sign
        if self.pool == "flatten":
            return slope.view(features.shape)
        per_place = slope[:, None, :] if features.dim() == 3 else slope[:, :, None, None]
        places = features.shape[1] if features.dim() == 3 else features.shape[2] * features.shape[3]
        return (per_place / places).expand(features.shape)


@lru_cache(maxsize=4)
def _sketch(whole: int, buckets: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bucket and sign of each number, the same everywhere: a seeded draw."""
    draw = torch.Generator().manual_seed(whole * 1_000_003 + buckets)
    bucket = torch.randint(buckets, (whole,), generator=draw)
    sign = torch.randint(2, (whole,), generator=draw) * 2.0 - 1.0
    return bucket.to(device), sign.to(device)
