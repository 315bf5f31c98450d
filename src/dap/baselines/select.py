"""Selections: a few real images a class, the least that a distilled set has to beat.

Each is a function (source, images per class, seed) -> the images chosen, a `Source` again. Those that look at pixels
take them in the source's own size and mode, flattened: bring it to the distilled set's first (`with_format`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from dap.baselines.rows import herding_rows, kcenter_rows, kmeans_rows
from dap.data import Source
from dap.errors import DataError


def random_subset(source: Source, ipc: int, seed: int) -> Source:
    """`ipc` images of each class, drawn at random by `seed`: every image is as likely as any other.

    (The usual code of this field takes the first files by name, which is neither random nor repeatable
    elsewhere.)

    Raises: DataError when a class has fewer than `ipc` images.
    """
    return source.select(ipc, seed)


def herding_subset(source: Source, ipc: int, seed: int = 0) -> Source:
    """Images whose mean is nearest to their class's mean image (`herding_rows`). Nothing is random: `seed` is unused.

    Raises: DataError when a class has fewer than `ipc` images, or images differ in size.
    """
    return _chosen(source, ipc, herding_rows)


def kmeans_subset(source: Source, ipc: int, seed: int) -> Source:
    """The images nearest to the centres of k-means, class by class (`kmeans_rows`).

    Raises: DataError when a class has fewer than `ipc` images, or images differ in size.
    """
    return _chosen(source, ipc, lambda features, count: kmeans_rows(features, count, seed))


def kcenter_subset(source: Source, ipc: int, seed: int = 0) -> Source:
    """Images that leave none of their class far away (`kcenter_rows`). Nothing is random: `seed` is unused.

    Raises: DataError when a class has fewer than `ipc` images, or images differ in size.
    """
    return _chosen(source, ipc, kcenter_rows)


def require_enough(source: Source, ipc: int) -> None:
    """Raise DataError naming the first class with fewer than `ipc` images."""
    for name, count in zip(source.class_names, source.counts, strict=True):
        if count < ipc:
            raise DataError(f"class {name!r} has {count} images, {ipc} were asked for; ask for {count} or fewer")


def _chosen(source: Source, ipc: int, rows: Callable[[Tensor, int], Tensor]) -> Source:
    require_enough(source, ipc)
    kept = []
    for label, keys in enumerate(source.keys):
        chosen = sorted(rows(source.images(label).flatten(1).float() / 255, ipc).tolist())
        kept.append(tuple(keys[i] for i in chosen))
    return replace(source, keys=tuple(kept))


# name -> (source, images per class, seed) -> the images chosen
SELECTIONS: dict[str, Callable[[Source, int, int], Source]] = {
    "random": random_subset,
    "herding": herding_subset,
    "kmeans": kmeans_subset,
    "kcenter": kcenter_subset,
}
