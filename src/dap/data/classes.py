"""Which class of the backbone is which class of the dataset: by name or wnid, never by position.

ImageNet's names need care: a word may belong to two classes (a crane is a bird and a machine), so a wnid or the whole
synset string decides, a single word only where it is the word of one class, and an ambiguous one is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dap.data.imagenet import imagenet_wnids, is_wnid, synset
from dap.errors import DataError, unknown

HEADER = ["dataset_class", "backbone_class"]


def match_classes(
    names: Sequence[str], backbone_names: Sequence[str], class_map: str | Path | None = None
) -> tuple[int, ...]:
    """For each class of the dataset, in label order, the backbone's index of the same class.

    names           class names of the dataset: plain names, wnids or ImageNet synset strings
    backbone_names  position = the backbone's own index; plain names, or ImageNet's 1,000 as wnids or synset strings
    class_map       CSV `dataset_class,backbone_class` for those that differ; backbone_class is a name or a wnid;
                    lines of classes that this dataset lacks are left alone: one file serves several subsets
    Raises: DataError for classes without a counterpart (with the nearest names), for words that fit two classes, for
    two dataset classes on one backbone class, and for a class map that is malformed or names none of the classes.
    """
    if class_map is None and list(names) == list(backbone_names) and len(set(names)) == len(names):
        return tuple(range(len(names)))  # a text backbone has the dataset's own classes
    mapped = _read_class_map(Path(class_map), names) if class_map is not None else {}
    backbone = _Backbone.of(backbone_names)
    whole = set(names)
    found = {name: backbone.index(mapped.get(name, name), whole) for name in names}
    unmatched = [name for name in names if found[name] is None]
    if unmatched:
        raise DataError(_unmatched(unmatched, mapped, len(names), backbone))
    taken: dict[int, str] = {}
    for name, index in found.items():
        assert index is not None
        if index in taken:
            raise DataError(
                f"the classes {taken[index]!r} and {name!r} are both the backbone's {backbone.names[index]!r};"
                " give each its own in a --class-map file"
            )
        taken[index] = name
    return tuple(taken)


def match_names(distilled_names: Sequence[str], test_names: Sequence[str]) -> tuple[int, ...]:
    """For each label of the test set the label of the same class in the distilled set.

    Raises: DataError naming the classes that only one of the two has.
    """
    label_of = {name: label for label, name in enumerate(distilled_names)}
    lacking = [name for name in test_names if name not in label_of]
    extra = [name for name in distilled_names if name not in set(test_names)]
    if lacking or extra:
        parts = [f"only in the test set: {_some(lacking)}"] if lacking else []
        parts += [f"only in the distilled set: {_some(extra)}"] if extra else []
        parts += (
            [f"did you mean one class by {alike}? Name it alike in both"] if (alike := _alike(lacking, extra)) else []
        )
        raise DataError(
            f"the test set and the distilled set are not of the same classes; {'; '.join(parts)}."
            " Give --test the data that the set was distilled from (its test split, the same --subset)"
        )
    return tuple(label_of[name] for name in test_names)


@dataclass(frozen=True)
class _Backbone:
    """The backbone's classes by every name they may be called.

    exact   its own names, and synset strings where those are wnids
    labels  index -> synset string, wnids and words (in lower case): only when it carries ImageNet's thousand
    """

    names: tuple[str, ...]
    labels: Mapping[int, str]
    exact: Mapping[str, tuple[int, ...]]
    wnids: Mapping[str, int]
    words: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(names: Sequence[str]) -> _Backbone:
        wnids = _imagenet_positions(names)
        labels = {index: synset(wnid) if is_wnid(names[index]) else names[index] for wnid, index in wnids.items()}
        words = [(word.lower(), index) for index, label in labels.items() for word in {*_words(label), label}]
        exact = [(name, index) for index, name in enumerate(names)]
        exact += [(label, index) for index, label in labels.items() if label != names[index]]
        return _Backbone(tuple(names), labels, _grouped(exact), wnids, _grouped(words))

    def index(self, name: str, whole: set[str]) -> int | None:
        """The class called `name`, None when there is none; `whole` are all names of the dataset."""
        if name in self.wnids:
            return self.wnids[name]
        exact, words = self.exact.get(name, ()), self.words.get(name.lower(), ())
        # "missile" is one synset and a word of "projectile, missile": plain only where the dataset has both
        rivals = [i for i in words if i not in exact and self.labels[i] not in whole]
        if len(exact) == 1 and not rivals:
            return exact[0]
        candidates = sorted({*exact, *words})
        if len(candidates) > 1:
            raise DataError(self._ambiguous(name, candidates))
        return candidates[0] if candidates else None

    def _ambiguous(self, name: str, candidates: Sequence[int]) -> str:
        wnid_of = {index: wnid for wnid, index in self.wnids.items()}
        shown = ", ".join(f"{wnid_of.get(i, f'index {i}')} ({self.labels.get(i, self.names[i])})" for i in candidates)
        return (
            f"class {name!r} fits {len(candidates)} classes of the backbone: {shown};"
            f" say which by its wnid in a --class-map file (CSV {','.join(HEADER)})"
        )


def _imagenet_positions(names: Sequence[str]) -> dict[str, int]:
    """wnid -> position, when these are ImageNet's 1,000 classes; {} otherwise.

    Names decide: wnids, or synset strings that share a word with timm's at the same index (lists differ in a few
    words), or the same strings in another order, where those that occur twice ("crane") stay out.
    """
    if len(names) != 1000:
        return {}
    wnids = imagenet_wnids()
    if set(names) == set(wnids):
        return {name: index for index, name in enumerate(names)}
    agree = {w: i for i, w in enumerate(wnids) if set(_words(names[i])) & set(_words(synset(w)))}
    if len(agree) < 990:
        positions = _grouped([(name, index) for index, name in enumerate(names)])
        strings = _grouped([(synset(w), i) for i, w in enumerate(wnids)])
        once = {w: positions.get(synset(w), ()) for w in wnids if len(strings[synset(w)]) == 1}
        agree = {w: found[0] for w, found in once.items() if len(found) == 1}
    return agree if len(agree) >= 990 else {}


def _read_class_map(path: Path, names: Sequence[str]) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the class map {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not rows or rows[0] != HEADER:
        raise DataError(f"the class map {str(path)!r} must begin with the line {','.join(HEADER)}")
    mapped: dict[str, str] = {}
    for line in rows[1:]:
        if len(line) != 2 or not all(line):
            raise DataError(f"the class map {str(path)!r} has the line {','.join(line)!r}; write {','.join(HEADER)}")
        if line[0] in mapped:
            raise DataError(f"the class map {str(path)!r} names {line[0]!r} twice; keep one line")
        mapped[line[0]] = line[1]
    if mapped and not any(name in mapped for name in names):
        raise DataError(f"class map {str(path)!r}: {unknown('dataset class', next(iter(mapped)), names)}")
    return mapped


def _unmatched(unmatched: Sequence[str], mapped: Mapping[str, str], count: int, backbone: _Backbone) -> str:
    shown = []
    for name in unmatched[:5]:
        target = mapped.get(name, name)
        near = get_close_matches(target, backbone.exact, n=2, cutoff=0.5)
        shown.append(f"{target!r}" + (f" (nearest: {' or '.join(map(repr, near))})" if near else ""))
    return (
        f"{len(unmatched)} of {count} classes are unknown to the backbone: {', '.join(shown)}"
        f"{', ...' if len(unmatched) > 5 else ''}; it knows {_some(backbone.names)}."
        f" Name their counterparts in a CSV {','.join(HEADER)} and add --class-map FILE.csv"
    )


def _alike(some: Sequence[str], others: Sequence[str]) -> str:
    """Pairs of names that differ in upper and lower case alone, in words; "" without any."""
    by_case = {name.casefold(): name for name in others}
    pairs = [(name, by_case[name.casefold()]) for name in some if name.casefold() in by_case]
    shown = [f"{one!r} and {other!r}" for one, other in pairs[:3]]
    return ", by ".join(shown) + (f" ({len(pairs)} such pairs)" if len(pairs) > 3 else "")


def _words(synset_string: str) -> list[str]:
    return [word.strip() for word in synset_string.split(",")]


def _grouped(pairs: Sequence[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, index in pairs:
        found[name] = (*found.get(name, ()), index)
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(n) for n in names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
