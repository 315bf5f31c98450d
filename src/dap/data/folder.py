"""A folder of class folders, ImageNet-style splits (`train/`, `val/`), and the datasets that `dap` writes.

DIR/cat/1.jpg           class folders; images may lie in sub-folders of a class
DIR/train/cat/1.jpg     splits of class folders: DIR:train
DIR/config.json         a distilled dataset: `config.json` maps the folders in DIR/data back to class names
DIR/data/cat/0.png
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.data.base import Source, require_classes
from dap.data.location import SPLIT_WORDS, not_chosen, pick_split, same_split
from dap.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})


@dataclass(frozen=True)
class _FolderReader:
    """Reads `key` below the folder of class `label`."""

    folders: tuple[Path, ...]

    def __call__(self, label: int, key: str) -> bytes:
        return (self.folders[label] / key).read_bytes()


def open_folder(path: Path, split: str | None, name: str, only: Collection[str] | None = None) -> Source:
    """The images below `path`, one class a sub-folder, sorted by name (by number when all names are numbers).

    only   list these classes and no others: a subset of ImageNet need not walk through all of it
    Raises: DataError for a folder without class folders, with images beside them, with several splits and
    none chosen, with an empty class or one of `only` missing, and for a distilled dataset whose folders are
    not those of its `config.json`.
    """
    try:
        return _open(path, split, name, only)
    except OSError as error:
        raise DataError(f"{str(error.filename or path)!r} cannot be read: {error.strerror}") from None


def _open(path: Path, split: str | None, name: str, only: Collection[str] | None) -> Source:
    root, record = _distilled(path)
    if record is None:
        root = _split_folder(root, split, name)
        name = name if split is None else f"{name}:{split}"
    elif split is not None:
        raise DataError(f"{name!r} is a distilled dataset and has no splits; leave {split!r} out")
    folders = {folder.name: folder for folder in _class_folders(root, name)}
    classes = _recorded_classes(folders, record, name) if record else {n: folders[n] for n in _in_order(folders)}
    if only is not None:
        require_classes(only, classes, name)
        classes = {n: folder for n, folder in classes.items() if n in only}
    keys = tuple(_image_keys(folder, class_name, name) for class_name, folder in classes.items())
    return Source(name, tuple(classes), keys, _FolderReader(tuple(classes.values())))


def _class_folders(root: Path, name: str) -> list[Path]:
    folders = _subfolders(root)
    loose = [f.name for f in sorted(root.iterdir()) if _is_image(f.name) and not f.is_dir()]
    if loose and not folders:
        raise DataError(
            f"{name!r} holds images but no class folders; move {loose[0]!r} and the others into one folder per class"
        )
    if loose:
        raise DataError(
            f"{name!r} holds {len(loose)} images beside its class folders, first {loose[0]!r}; move them"
            " into a class folder"
        )
    if not folders:
        raise DataError(f"{name!r} holds no images; give a folder that has one sub-folder of images per class")
    return folders


def _split_folder(root: Path, split: str | None, name: str) -> Path:
    """`root`, or the split below it that is meant."""
    folders = _subfolders(root)
    splits = {f.name: f for f in folders if f.name.lower() in SPLIT_WORDS and _holds_folders_only(f)}
    if split is not None:
        meant = [f for f in folders if same_split(f.name, split)]
        if meant and not splits.keys() & {f.name for f in meant}:
            found = "no class folders with images; put one folder of images per class into it"
            if _subfolders(meant[0]):
                found = "images beside its class folders; move them into these"
            raise DataError(f"'{name}/{meant[0].name}' holds {found}")
        if not splits:
            shown = ", ".join(f.name for f in folders[:5]) or "no folders"
            raise DataError(f"{name!r} has no splits, so no {split!r}; it holds {shown}: leave the split out")
        return splits[pick_split(splits, split, name)]
    # One folder "train" among ordinary ones is a class of trains that has sub-folders.
    if len(splits) > 1 or (splits and len(splits) == len(folders)):
        raise not_chosen(splits, name)
    return root


def _image_keys(folder: Path, class_name: str, name: str) -> tuple[str, ...]:
    """Paths of the images in a class folder and below, relative to it, sorted."""
    keys: list[str] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_fail):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in files:
            if _is_image(file):
                keys.append((Path(parent) / file).relative_to(folder).as_posix())
            elif not file.startswith("."):
                others[Path(file).suffix.lower() or "no ending"] += 1
    if not keys:
        endings = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3))
        found = f"only other files ({endings})" if others else "no images"
        raise DataError(
            f"class {class_name!r} in {name!r} holds {found}; add JPEG, PNG, WebP or BMP images, or remove the folder"
        )
    return tuple(sorted(keys))


def _distilled(path: Path) -> tuple[Path, dict[str, Any] | None]:
    """(folder of class folders, record) of a distilled dataset or its data folder, else (path, None)."""
    for base in (path, path.resolve().parent if path.resolve().name == "data" else None):
        if base is None or not (base / "config.json").is_file() or not (base / "data").is_dir():
            continue
        try:
            record = json.loads((base / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{str(base / 'config.json')!r} cannot be read as JSON: {error}") from None
        if isinstance(record, dict) and "folders" in record and "class_names" in record:
            return base / "data", record
    return path, None


def _recorded_classes(folders: dict[str, Path], record: dict[str, Any], name: str) -> dict[str, Path]:
    """Class name -> folder, in the record's label order. Uses only folders seen on disk, never its text."""
    names, of_folder = record["class_names"], record["folders"]
    sound = isinstance(of_folder, dict) and isinstance(names, list)
    if not (sound and all(isinstance(n, str) for n in names) and sorted(map(str, of_folder.values())) == sorted(names)):
        raise DataError(
            f"config.json of {name!r}: 'folders' and 'class_names' do not name the same classes; run dap verify"
        )
    missing = sorted(set(of_folder) - set(folders))
    if missing:
        raise DataError(
            f"{name!r} is a distilled dataset that lacks {len(missing)} of {len(names)} class folders, first"
            f" {missing[0]!r}; finish it by running the same dap distill again"
        )
    if extra := sorted(set(folders) - set(of_folder)):
        raise DataError(f"folder {extra[0]!r} in {name!r} is not in its config.json; remove it")
    by_class = {class_name: folders[folder] for folder, class_name in of_folder.items()}
    return {class_name: by_class[class_name] for class_name in names}


def _in_order(names: Iterable[str]) -> list[str]:
    # "10" comes before "2" as text: whoever names folders by number means the number.
    names = list(names)
    numbers = all(n.isascii() and n.isdigit() for n in names)
    return sorted(names, key=lambda n: (int(n), n)) if numbers else sorted(names)


def _subfolders(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def _holds_folders_only(folder: Path) -> bool:
    return bool(_subfolders(folder)) and not any(_is_image(f.name) and f.is_file() for f in folder.iterdir())


def _fail(error: OSError) -> None:
    raise error  # os.walk would silently leave out a folder that it may not read


def _is_image(file: str) -> bool:
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES
