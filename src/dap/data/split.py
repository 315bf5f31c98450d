"""A validation part split off the training data, so that whatever must be chosen is not chosen on the test data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dap.data.base import Source
from dap.data.content import each, hashed
from dap.errors import ConfigError, DataError


def split_validation(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """(training part, validation part): `fraction` of each class, rounded, at least one image, drawn by `seed`.

    The parts share no image: not by name, and not by content either, as a file of the training part that equals one
    of the validation part, in whatever class, is left out. A class's draw does not depend on the other classes, and
    a smaller fraction is part of a larger one. Reads every file once.

    Raises: ConfigError unless 0 < fraction < 1; DataError when a class has no image left to train on.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction is {fraction}; use a number between 0 and 1, for example 0.1")
    held = [_drawn(source, label, fraction, seed) for label in range(len(source.keys))]
    contents = [list(each(partial(_content, source, label), keys)) for label, keys in enumerate(source.keys)]
    unseen = {
        content
        for part, keys, files in zip(held, source.keys, contents, strict=True)
        for key, content in zip(keys, files, strict=True)
        if key in part
    }
    train = tuple(
        tuple(key for key, content in zip(keys, files, strict=True) if content not in unseen)
        for keys, files in zip(source.keys, contents, strict=True)
    )
    for name, keys in zip(source.class_names, train, strict=True):
        if not keys:
            raise DataError(
                f"class {name!r} of {source.name!r} has no image left to train on beside a validation part of"
                f" {fraction}; use a smaller fraction or more (different) images"
            )
    kept = tuple(tuple(key for key in keys if key in part) for keys, part in zip(source.keys, held, strict=True))
    return (
        replace(source, name=f"{source.name} without its validation part", keys=train),
        replace(source, name=f"{source.name}, validation part", keys=kept),
    )


def _drawn(source: Source, label: int, fraction: float, seed: int) -> set[str]:
    name, keys = source.class_names[label], source.keys[label]
    ranked = sorted(keys, key=lambda key: hashed("validation", str(seed), name, key))
    return set(ranked[: max(1, round(fraction * len(keys)))])


def _content(source: Source, label: int, key: str) -> bytes:
    return hashed(source.read_bytes(label, key))
