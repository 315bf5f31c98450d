"""ImageNet's names: the 1,000 wnids with their synsets, and the subsets that papers use.

A *wnid* ("n01440764") names a class for good; a *synset string* ("tench, Tinca tinca") is its list of words,
and a single word may belong to two classes. The index of a class is the rank of its wnid among all 1,000.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files

from dap.errors import DataError, unknown

_WNID = re.compile(r"n\d{8}")


def is_wnid(name: str) -> bool:
    """Whether a name has the form of a wnid: n and eight digits."""
    return _WNID.fullmatch(name) is not None


def subset_names() -> tuple[str, ...]:
    """The named subsets, sorted: imagenet-100, imagenette, imagewoof, ..."""
    return tuple(sorted(_subsets()))


def subset_wnids(name: str) -> tuple[str, ...]:
    """The wnids of a named subset (in any case), sorted: that is the label order. Raises: DataError."""
    try:
        return _subsets()[name.lower()]
    except KeyError:
        raise DataError(unknown("subset", name.lower(), _subsets())) from None


def imagenet_wnids() -> tuple[str, ...]:
    """All 1,000 wnids of ImageNet-1K, sorted: position = index."""
    return tuple(_synsets())


def imagenet_index(wnid: str) -> int:
    """The ImageNet-1K index of a wnid, 0..999. Raises: DataError for one of the other wnids of WordNet."""
    synset(wnid)
    return _indexes()[wnid]


def synset(wnid: str) -> str:
    """The words of a class: "n01440764" -> "tench, Tinca tinca". Raises: DataError for an unknown wnid."""
    try:
        return _synsets()[wnid]
    except KeyError:
        raise DataError(f"{wnid!r} is not one of the 1,000 classes of ImageNet-1K; wnids look like n01440764") from None


@cache
def _subsets() -> dict[str, tuple[str, ...]]:
    text = (files("dap.data") / "imagenet_subsets.csv").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["subset"], []).append(row["wnid"])
    return {subset: tuple(sorted(wnids)) for subset, wnids in found.items()}


@cache
def _synsets() -> dict[str, str]:
    from timm.data import ImageNetInfo  # here: importing timm takes seconds

    return dict(sorted(ImageNetInfo().label_descriptions(as_dict=True).items()))


@cache
def _indexes() -> dict[str, int]:
    return {wnid: index for index, wnid in enumerate(_synsets())}
