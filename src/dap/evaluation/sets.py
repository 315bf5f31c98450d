"""Training sets and test data as tensors: opened, checked, matched by class name, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dap.baselines import SELECTIONS, require_enough
from dap.config import digest
from dap.data import Source, open_dataset
from dap.data.classes import match_names
from dap.errors import ConfigError, DataError, unknown
from dap.evaluation.batches import Labelled
from dap.evaluation.protocols import Protocol
from dap.store import Store

BASELINES = (*SELECTIONS, "full")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A training set that is to be judged.

    name       as in the result: what the user wrote, or the baseline's name
    ipc        images per class (the smallest class); None: the full data
    counts     images of each class, in the test data's label order
    size       side of its images in pixels, and mode ("L" when every pixel is grey): the test data are
               brought to both
    draw       repeat -> images and labels in the test data's label order, and a digest of their content
    chosen     repeat -> what decides which images those are: as good as their digest, but known before they are read
    directory  the distilled dataset that the result is written into, if it is one
    record     its config.json, {} where there is none
    origin     the name of the real data that a baseline was drawn from
    """

    name: str
    ipc: int | None
    counts: tuple[int, ...]
    size: int
    mode: str
    draw: Callable[[int], tuple[Labelled, str]]
    chosen: Callable[[int], dict[str, Any]]
    directory: Path | None = None
    record: dict[str, Any]
    origin: str | None = None

    @property
    def family(self) -> str | None:
        """Equal for sets that only the generation seed tells apart; None if `dap distill` did not make it."""
        recipe = self.recipe
        return None if recipe is None else digest([recipe, self.counts])

    @property
    def recipe(self) -> str | None:
        """Equal for sets made in one way, whatever their images per class and seed; None as for `family`.

        The micro-batch follows from the images per class, and so may the real images that were looked at.
        """
        made, config = self.record.get("determines"), self.record.get("config")
        if not (isinstance(made, dict) and isinstance(config, dict)):
            return None
        how = {key: value for key, value in made.items() if key not in ("data", "run")}
        return digest([how, config.get("data"), self.record.get("class_names")])

    @property
    def method(self) -> str | None:
        """How a distilled dataset was guided ("unguided": not at all), or the baseline's name; None for other folders."""
        if self.origin is not None:
            return self.name
        config = self.record.get("config")
        guidance = config.get("guidance") if isinstance(config, dict) else None
        name = guidance.get("preset") or guidance.get("name") if isinstance(guidance, dict) else None
        return "unguided" if name == "none" else name

    def serves(self, other: Candidate) -> bool:
        """Whether this is a baseline that `other` is to be compared with."""
        alike = (self.size, self.mode) == (other.size, other.mode) and self.ipc in (None, other.ipc)
        return self.origin is not None and alike


def open_candidate(given: Source | str | Path, test: Source, protocol: Protocol) -> Candidate:
    """The set to judge: a `Source`, a distilled dataset, or whatever else `open_dataset` opens.

    Raises: DataError when its classes are not those of `test`, a class is empty, its images differ in size or
    are not square (unless the protocol brings them to one size), or the dataset is unfinished or damaged.
    """
    directory, record = (None, {}) if isinstance(given, Source) else _distilled(Path(given).expanduser())
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
        return {"images": real.digest, "selection": name, "ipc": ipc, "draw": 0 if ipc is None else repeat}

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


def _distilled(path: Path) -> tuple[Path | None, dict[str, Any]]:
    """(directory, config.json) of a finished distilled dataset or its data folder; (None, {}) for others."""
    for base in (path, path.parent if path.name == "data" else path):
        if (base / "plan.json").is_file():
            store = Store.open(base)
            if missing := store.missing():
                raise DataError(
                    f"{str(base)!r} is unfinished or damaged ({len(missing)} of {len(store.chunks)} chunks);"
                    f" dap verify {base} says where, the same dap distill again mends it"
                )
            return base, store.config
    return None, {}


def _is_grey(data: Labelled) -> bool:
    red, green, blue = data.images.unbind(1)
    return bool(torch.equal(red, green) and torch.equal(green, blue))
