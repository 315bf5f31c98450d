"""Training sets and test data as tensors: opened, checked, matched by class name, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median_low
from typing import Any

import torch

from dap.baselines import SELECTIONS, require_enough
from dap.data import Source, open_dataset
from dap.data.classes import match_names
from dap.errors import ConfigError, DataError, unknown
from dap.evaluation.batches import Labelled
from dap.evaluation.candidate import Candidate
from dap.evaluation.protocols import Protocol
from dap.finished import finished_at
from dap.record import versions

BASELINES = (*SELECTIONS, "full")


def open_candidate(given: Source | str | Path, test: Source, protocol: Protocol) -> Candidate:
    """The set to judge: a `Source`, a distilled dataset, or whatever else `open_dataset` opens.

    Raises: DataError when its classes are not those of `test`, a class is empty, its images differ in size or
    are not square (unless the protocol brings them to one size), or the dataset is unfinished or damaged.
    """
    store = None if isinstance(given, Source) else finished_at(Path(given).expanduser())
    directory, record = (None, {}) if store is None else (store.path, store.config)
    source = given if isinstance(given, Source) else open_dataset(str(given))
    order = match(source, test)
    images = load(source, order, size=protocol.size, mode="RGB")
    content = source.digest
    return Candidate(
        name=source.name if isinstance(given, Source) else str(given),
        ipc=min(source.counts),
        counts=tuple(source.counts[label] for label in order),
        size=images.images.shape[-1],
        mode="L" if _is_grey(images) else "RGB",
        draw=lambda repeat: (images, content),
        chosen=lambda repeat: {"images": content},
        directory=directory,
        record=record,
        stored=stored_side(source),
        real=_real_counts(record, source, order),
    )


def open_baseline(name: str, like: Candidate, real: Source, test: Source) -> Candidate:
    """Baseline `name` from the `real` data, in the format and with the images per class of `like`.

    Raises: DataError when the classes are not those of `test`, or one of them has too few images.
    """
    order = match(real, test)
    ipc = None if name == "full" else like.ipc
    shaped = real.with_format(size=like.size, mode=like.mode)
    if ipc is not None:
        require_enough(real, ipc)  # here, so that a class with too few images is found before any training

    @cache
    def choose(repeat: int) -> Source:
        return shaped if ipc is None else SELECTIONS[name](shaped, ipc, repeat)

    def draw(repeat: int) -> tuple[Labelled, str]:
        selected = choose(repeat)
        return load(selected, order, size=like.size, mode=like.mode), selected.digest

    def chosen(repeat: int) -> dict[str, Any]:
        if name == "random":  # only hashes of names are looked at: no need to read all of the real data
            return {"images": choose(repeat).digest}
        how = {"images": real.digest, "selection": name, "ipc": ipc, "draw": 0 if ipc is None else repeat}
        return {**how, "scikit-learn": versions().get("scikit-learn")} if name == "kmeans" else how

    return Candidate(
        name=name,
        ipc=ipc,
        counts=tuple(real.counts[label] if ipc is None else ipc for label in order),
        size=like.size,
        mode=like.mode,
        draw=cache(lambda repeat: draw(0)) if ipc is None else draw,
        chosen=chosen,
        record={},
        origin=real.name,
        stored=stored_side(real),
        real=tuple(real.counts[label] for label in order),
    )


def open_real(like: Candidate) -> Source:
    """The real data that a distilled dataset was made from, as its config.json records them.

    Raises: DataError when there is no such record: name the data with `--real`.
    """
    data = like.record.get("config", {}).get("data", {})
    if not data.get("source"):
        raise DataError(f"{like.name!r} does not record the real data it stands for; add --real DATA")
    skip = "skip" if data.get("on_bad_image") == "skip" else None
    return open_dataset(data["source"], split=data.get("split"), subset=data.get("subset"), on_bad_image=skip)


def check_baselines(names: Sequence[str]) -> None:
    """Raise ConfigError, with the nearest name, for a baseline that does not exist."""
    for name in names:
        if name not in BASELINES:
            raise ConfigError(unknown("baseline", name, BASELINES))


def match(source: Source, test: Source) -> tuple[int, ...]:
    """For each label of `test` the label of the same class in `source`, by class name.

    Raises: DataError for classes that only one of them has, and for a class without images.
    """
    for part in (source, test):
        for name, count in zip(part.class_names, part.counts, strict=True):
            if not count:
                raise DataError(
                    f"class {name!r} of {part.name!r} has no images; add some or leave the class out of both"
                )
    try:
        return match_names(source.class_names, test.class_names)
    except DataError as error:
        raise DataError(f"{source.name!r} with test data {test.name!r}: {error}") from None


def load(source: Source, order: Sequence[int], *, size: int | None, mode: str) -> Labelled:
    """All images in memory; class `order[i]` of `source` gets label i. Grey images are repeated to 3
    channels.

    Raises: DataError for images of mixed size or not square where `size` is None.
    """
    source = source.with_format(size=size, mode=mode)
    parts = [source.images(label) for label in order]
    first = source.class_names[order[0]]
    height, width = parts[0].shape[2:]
    for label, part in zip(order, parts, strict=True):
        if part.shape[2:] != (height, width):
            other = f"{source.class_names[label]!r} {part.shape[3]} x {part.shape[2]}"
            raise DataError(
                f"images of {source.name!r} differ in size: those of {first!r} are {width} x {height},"
                f" of {other}; save them in one size"
            )
    if height != width:
        raise DataError(f"images of {source.name!r} are {width} x {height}; save them square")
    counts = torch.tensor([len(part) for part in parts])
    labels = torch.arange(len(parts)).repeat_interleave(counts)
    return Labelled(torch.cat(parts).expand(-1, 3, -1, -1), labels)


def load_test(test: Source, protocol: Protocol, *, size: int, mode: str) -> Labelled:
    """The test images at `size`: the centre of what `test_crop` makes them larger by (0.875: 224 of 256)."""
    side = round(size / protocol.test_crop)
    whole = load(test, range(len(test.class_names)), size=side, mode=mode)
    start = (side - size) // 2
    kept = slice(start, start + size)
    return Labelled(whole.images[:, :, kept, kept], whole.labels) if side != size else whole


def stored_side(source: Source) -> int:
    """Short side in pixels of the images as they are stored: the median of the first ones of up to ten classes."""
    own = replace(source, size=None)
    labels = [label for label, count in enumerate(source.counts) if count][:10]
    return median_low(min(own.images(label, [0]).shape[2:]) for label in labels)


def _real_counts(record: dict[str, Any], source: Source, order: Sequence[int]) -> tuple[int, ...] | None:
    """Real images of each class that a distilled dataset's record tells of, in the test data's label order."""
    told = record.get("real_images")
    counts = told.get("counts") if isinstance(told, dict) else None
    if not counts:
        return None
    known = dict(zip(record["class_names"], counts, strict=True))
    return tuple(known[source.class_names[label]] for label in order)


def _is_grey(data: Labelled) -> bool:
    red, green, blue = data.images.unbind(1)
    return bool(torch.equal(red, green) and torch.equal(green, blue))
