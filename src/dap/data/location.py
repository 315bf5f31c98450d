"""Which file or folder is meant, and which part of it: `DIR:train`, `split="train"`. Parts never mix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from dap.errors import DataError

# The words that stand for a split, and which of them mean the same.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def locate(spec: str, split: str | None) -> tuple[Path, str, str | None]:
    """(path, the same as the user wrote it, split) of `PATH[:split]`; an existing path with a colon wins.

    Raises: DataError when there is no such path (with the nearest name), or two splits are named.
    """
    if not spec.strip():
        raise DataError(
            "no data was named; give a folder of class folders, a parquet file, hf:owner/name or digits:train"
        )
    name, written = spec, None
    head, _, tail = spec.rpartition(":")
    if not _exists(spec) and len(head) > 1 and "/" not in tail and "\\" not in tail:  # a drive letter has no split
        name, written = head, tail or None
    if not _exists(name):
        raise DataError(_missing(_path(name), f":{written}" if written else ""))
    return _path(name), name, one_split(written, split, name)


def one_split(written: str | None, split: str | None, spec: str) -> str | None:
    """The split of `SPEC:written` and `--split`. Raises: DataError when they differ."""
    if written is not None and split is not None and not same_split(written, split):
        raise DataError(f"'{spec}:{written}' and split {split!r} name two splits; give one")
    return written or split


def pick_split(found: Iterable[str], wanted: str | None, spec: str) -> str:
    """The one of `found` that `wanted` names (val, valid and validation are one); the only one when None.

    Raises: DataError when there are several and none is chosen, or the chosen one is not there.
    """
    names = sorted(found)
    if wanted is None:
        if len(names) == 1:
            return names[0]
        raise not_chosen(names, spec)
    same = [n for n in names if same_split(n, wanted)]
    if wanted in names or len(same) == 1:
        return wanted if wanted in names else same[0]
    near = (get_close_matches(wanted, names, n=1) or names)[0]
    raise DataError(f"{spec!r} has no split {wanted!r}; it has {', '.join(names)}: type {spec}:{near}")


def same_split(one: str, other: str) -> bool:
    """Whether two words mean the same split: val is validation."""
    return _canonical(one) == _canonical(other)


def not_chosen(found: Iterable[str], spec: str) -> DataError:
    """The error for a dataset of splits of which none was chosen."""
    names = sorted(found)
    typed = " or ".join(f"{spec}:{name}" for name in names)
    several = "has the splits" if len(names) > 1 else "holds only the split"
    return DataError(f"{spec!r} {several} {', '.join(names)}; splits are not mixed: type {typed}")


def parquet_files(path: Path) -> list[Path]:
    """The parquet files of a folder or of its `data` folder, sorted; [] when there are none."""
    for folder in (path, path / "data"):
        if files := sorted(f for f in folder.glob("*.parquet") if f.is_file() and not f.name.startswith(".")):
            return files
    return []


def _canonical(name: str) -> str:
    return SPLIT_WORDS.get(name.lower(), name.lower())


def _path(text: str) -> Path:
    path = Path(text)
    return path.expanduser() if text.startswith("~") else path


def _exists(text: str) -> bool:
    try:
        return _path(text).exists()
    except OSError:  # a name that is too long for the file system
        return False


def _missing(path: Path, split: str) -> str:
    parent = path.absolute().parent
    if not parent.is_dir():
        while not parent.is_dir():
            parent = parent.parent
        return f"there is no {str(path)!r}; of that path only {str(parent)!r} exists"
    names = {str(path.parent / p.name): p.name for p in sorted(parent.iterdir())}
    if path.name == str(path):
        names.setdefault("digits", "digits")
    near = get_close_matches(path.name, names.values(), n=1, cutoff=0.5)
    meant = [f"{name}{split}" for name, last in names.items() if last in near]
    if meant == ["digits"]:
        meant = ["digits:train"]
    return f"there is no {str(path)!r}; " + (f"did you mean {meant[0]!r}?" if meant else "check the path")
