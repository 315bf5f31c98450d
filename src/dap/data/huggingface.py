"""Parquet files and hub datasets in the Hugging Face Image convention: image struct{bytes, path}, integer label.

    FILE.parquet                        one split
    DIR/train.parquet                   a split per file: DIR:train
    DIR/train-00000-of-00002.parquet    a split in shards; also in DIR/data, as in a clone of a hub repository
    hf:owner/name:train                 the same from the hub, through `datasets`

Labels count through the file's own table: the ClassLabel names of its schema, else `classes.txt` beside it (line i =
label i). A row's key is its number, zero-padded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dap.data.base import Source
from dap.data.location import one_split, parquet_files, pick_split
from dap.data.rows import HubReader, ParquetReader
from dap.errors import DataError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")  # the last is CIFAR-100's hundred classes, not its twenty groups

_SHARD = re.compile(r"(?P<split>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(-\w+)?")
_HUB = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(:(?P<split>[\w.-]+))?")


def open_parquet(path: Path, split: str | None, name: str) -> Source:
    """One split of a parquet file or a folder of them; reads labels only, images when they are asked for.

    Raises: DataError for a file that is no parquet, without the two columns or class names, with labels
    outside the table, with missing shards, and for several splits when none is chosen.
    """
    files = _files_of_split(path, split, name)
    name = name if split is None else f"{name}:{split}"
    tables = [_read_table(file) for file in files]
    columns, names, _ = tables[0]
    for file, table in zip(files, tables, strict=True):
        if table[:2] != (columns, names):
            raise DataError(f"{str(file)!r} has other columns or class names than {str(files[0])!r}; give one of them")
    keys = _rows_by_label(np.concatenate([labels for _, _, labels in tables]), names, name)
    return Source(name, names, keys, ParquetReader(tuple(files), columns[0]))


def _read_table(file: Path) -> tuple[tuple[str, str], tuple[str, ...], Any]:
    """((image column, label column), class names, labels int64 [rows]) of one file."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            columns = _columns({f.name: _kind(f.type) for f in schema}, str(file))
            labels = parquet.read(columns=[columns[1]]).column(0)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{str(file)!r} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    names = _schema_names(schema.metadata or {}, columns[1]) or _names_beside(file)
    return columns, names, _numbers(labels, str(file))


def open_hub(text: str, split: str | None) -> Source:
    """`owner/name` or `owner/name:split` of the Hugging Face hub, through `datasets`; runs no code of it.

    Raises: DataError when it cannot be reached or found, or is not as `open_parquet` needs it.
    """
    match = _HUB.fullmatch(text)
    if match is None:
        raise DataError(
            f"'hf:{text}' is not a hub dataset; write hf:owner/name:split, for example hf:uoft-cs/cifar10:train"
        )
    repo, name = match["repo"], f"hf:{match['repo']}"
    split = one_split(match["split"], split, name)
    import datasets

    try:
        chosen = pick_split(datasets.get_dataset_split_names(repo), split, name)
        rows = datasets.load_dataset(repo, split=chosen)
    except DataError:
        raise
    except Exception as error:  # network, hub, cache and builder errors share no base class
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{name!r} cannot be loaded: {type(error).__name__}: {first}; check the name and the network, or"
            " give a local path"
        ) from None
    image, label = _columns({k: type(v).__name__ for k, v in rows.features.items()}, name)
    names = tuple(getattr(rows.features[label], "names", None) or ())
    if not names:
        raise DataError(f"{name!r}: column {label!r} has no class names; download it and put a classes.txt beside it")
    labels = _numbers(rows.data.column(label), name)
    rows = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    return Source(f"{name}:{chosen}", names, _rows_by_label(labels, names, name), HubReader(rows, image))


def _files_of_split(path: Path, split: str | None, name: str) -> list[Path]:
    files = [path] if path.is_file() else parquet_files(path)
    splits: dict[str, list[Path]] = {}
    for file in files:
        shard = _SHARD.fullmatch(file.stem)
        # 0000.parquet, 0001.parquet in a folder "train" is how the hub converts datasets
        stem = shard["split"] if shard else file.parent.name if file.stem.isdigit() else file.stem
        splits.setdefault(stem, []).append(file)
    if path.is_file() and split is None:
        return files
    chosen = splits[pick_split(splits, split, name)]
    shards = [s for s in (_SHARD.fullmatch(file.stem) for file in chosen) if s]
    if shards and (missing := set(range(int(shards[0]["count"]))) - {int(s["index"]) for s in shards}):
        raise DataError(
            f"{name!r} lacks shard {min(missing)} of {int(shards[0]['count'])} (counted from 0); download it again"
        )
    return chosen


def _columns(kinds: dict[str, str], name: str) -> tuple[str, str]:
    """(image column, label column), each the only one of the known names that has the right type."""
    images = [c for c in IMAGE_COLUMNS if kinds.get(c) in ("image", "Image")]
    labels = [c for c in LABEL_COLUMNS if kinds.get(c) in ("integer", "ClassLabel", "Value")]
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    found = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    raise DataError(
        f"{name!r} needs one column 'image' (struct of bytes and path) and one column 'label' (integer);"
        f" it has {found or 'none'}: rename them"
    )


def _kind(arrow_type: Any) -> str:
    import pyarrow.types as kinds

    if kinds.is_struct(arrow_type):
        fields = {arrow_type.field(i).name: arrow_type.field(i).type for i in range(arrow_type.num_fields)}
        data = fields.get("bytes")
        return "image" if data is not None and (kinds.is_binary(data) or kinds.is_large_binary(data)) else "struct"
    return "integer" if kinds.is_integer(arrow_type) else str(arrow_type)


def _schema_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """The ClassLabel names that `datasets` writes into a schema, () when there are none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        return tuple(str(n) for n in feature["names"]) if feature["_type"] == "ClassLabel" else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _names_beside(file: Path) -> tuple[str, ...]:
    table = file.parent / "classes.txt"
    if not table.is_file():
        raise DataError(
            f"{str(file)!r} has no class names in its schema; write them to {str(table)!r}, line i the name of label i"
        )
    try:
        lines = table.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(table)!r} cannot be read as UTF-8 text: {error}") from None
    names = tuple(line.strip() for line in lines)
    if not all(names):
        raise DataError(f"line {names.index('') + 1} of {str(table)!r} is empty; line i must be the name of label i")
    return names


def _numbers(column: Any, name: str) -> Any:
    """An integer column as int64 [rows]; raises DataError where one is missing or not an integer."""
    if column.null_count or _kind(column.type) != "integer":
        what = f"{column.null_count} rows without a label" if column.null_count else f"labels of type {column.type}"
        raise DataError(f"{name!r} has {what}; every row needs an integer label")
    return column.to_numpy().astype(np.int64)


def _rows_by_label(labels: Any, names: Sequence[str], name: str) -> tuple[tuple[str, ...], ...]:
    """Row numbers of each label as zero-padded keys."""
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"row {row} of {name!r} has label {labels[row]}, but there are {len(names)} class names"
            f" (0 to {len(names) - 1}); choose a split that has labels, or mend the table of names"
        )
    width = len(str(max(len(labels) - 1, 0)))
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(labels, minlength=len(names)))[:-1])
    return tuple(tuple(f"{row:0{width}d}" for row in part.tolist()) for part in parts)
