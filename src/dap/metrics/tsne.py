"""A map of feature space: real and synthetic images of all sets in one t-SNE (the paper's Figure 5).

t-SNE keeps neighbours together and nothing else: distances between clusters, their sizes and empty space mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dap.data import Source
from dap.data.content import hashed

LEAST = 3
PERPLEXITY = 30.0
REAL = -1

Point = tuple[int, int, int]  # (set, label, position); the set is REAL for real images


def chosen(sources: Mapping[int, Source], most: int, seed: int) -> list[Point]:
    """The images on the map: all when they are no more than `most`, else a seeded choice, synthetic ones first.

    Synthetic images take at most half of the places; an image's rank depends on its own name and the seed alone.
    """

    def ranked(sets: Sequence[int]) -> list[Point]:
        points = [(k, label, i) for k in sets for label, keys in enumerate(sources[k].keys) for i in range(len(keys))]
        names = {k: sources[k].class_names for k in sets}
        return sorted(
            points, key=lambda p: hashed(str(seed), str(p[0]), names[p[0]][p[1]], sources[p[0]].keys[p[1]][p[2]])
        )

    synthetic, real = ranked([k for k in sources if k != REAL]), ranked([k for k in sources if k == REAL])
    room = most - min(len(real), most - min(len(synthetic), most // 2))
    return sorted(synthetic[:room] + real[: most - min(room, len(synthetic))])


def sketched(rows: NDArray[np.float32], seed: int, numbers: int = 2048) -> NDArray[np.float32]:
    """Rows [n, F] as [n, 2048] when they are longer: a count sketch, which keeps distances on average."""
    if rows.shape[1] <= numbers:
        return np.array(rows)
    rng = np.random.default_rng(seed)
    bucket, sign = rng.integers(numbers, size=rows.shape[1]), rng.choice(np.array([-1, 1], np.float32), rows.shape[1])
    out = np.zeros((len(rows), numbers), np.float32)
    for row, short in zip(rows, out, strict=True):
        np.add.at(short, bucket, sign * row)
    return out


def embedded(features: Any, seed: int) -> list[list[float]]:
    """Features [n, F] -> places [[x, y], ...] in [0, 1]; [] for fewer than 3. The same for the same features."""
    if len(features) < LEAST:
        return []
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.asarray(features, np.float32)
    rows = rows - rows.mean(0)
    if not rows.any():  # copies of one image have no directions
        return [[0.5, 0.5]] * len(rows)
    if rows.shape[1] > 50 and len(rows) > 50:
        rows = PCA(50, svd_solver="randomized", random_state=seed).fit_transform(rows)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    start = rows[:, :2] if rows.shape[1] > 1 else np.repeat(rows, 2, 1)
    start = 1e-4 * start / (start.std() or 1)
    places = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(rows)
    low, high = places.min(0), places.max(0)
    scaled = (places - low) / np.maximum(high - low, 1e-9)
    return [[round(float(x), 4), round(float(y), 4)] for x, y in scaled]
