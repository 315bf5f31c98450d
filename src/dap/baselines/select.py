"""Selections: a few real images a class, the least that a distilled set has to beat."""

from __future__ import annotations

from collections.abc import Callable

from dap.data import Source


def random_subset(source: Source, ipc: int, seed: int) -> Source:
    """`ipc` images of each class, drawn at random by `seed`: every image is as likely as any other.

    (The usual code of this field takes the first files by name, which is neither random nor repeatable
    elsewhere.)

    Raises: DataError when a class has fewer than `ipc` images.
    """
    return source.select(ipc, seed)


# name -> (source, images per class, seed) -> the images chosen
SELECTIONS: dict[str, Callable[[Source, int, int], Source]] = {"random": random_subset}
