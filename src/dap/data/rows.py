"""Readers of single rows: the image bytes of one row number, without the others as Python objects."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

from dap.errors import DataError

CACHE_BYTES = 1 << 30


class ParquetReader:
    """Image bytes of a row that counts through several parquet files.

    Parquet can only be read by row groups: the last used ones are kept, up to `cache_bytes` of them. A file
    that is larger is read once per class, as a class's rows are asked for in order.
    """

    def __init__(self, files: tuple[Path, ...], column: str, cache_bytes: int = CACHE_BYTES) -> None:
        self.files, self.column, self.cache_bytes = files, column, cache_bytes
        self._forget()

    def __call__(self, label: int, key: str) -> bytes:
        row = int(key)
        with self._lock:
            position = bisect_right(self._starts(), row) - 1
            group = self._group(position)
        data = group[row - self._first[position]].as_py()
        if data is None:
            raise DataError("the row holds no image bytes, only a path or nothing")
        return bytes(data)

    def _starts(self) -> list[int]:
        """The first row of every row group, counted through all files; reads the files' footers once."""
        import pyarrow.parquet as pq

        if not self._first:
            row = 0
            for file in self.files:
                metadata = pq.read_metadata(file)
                for group in range(metadata.num_row_groups):
                    self._groups.append((file, group))
                    self._first.append(row)
                    row += metadata.row_group(group).num_rows
        return self._first

    def _group(self, position: int) -> Any:
        """The image bytes of one row group as an arrow array."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if position not in self._cache:
            file, group = self._groups[position]
            try:
                with pq.ParquetFile(file) as parquet:
                    column = parquet.read_row_group(group, columns=[f"{self.column}.bytes"]).column(self.column)
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(
                    f"row group {group} of {file.name!r} is damaged: {str(error).splitlines()[0]}"
                ) from None
            self._cache[position] = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
            while len(self._cache) > 1 and sum(a.nbytes for a in self._cache.values()) > self.cache_bytes:
                self._cache.popitem(last=False)
        self._cache.move_to_end(position)
        return self._cache[position]

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._groups: list[tuple[Path, int]] = []
        self._first: list[int] = []
        self._cache: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "column": self.column, "cache_bytes": self.cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


class HubReader:
    """Image bytes of a row of a `datasets.Dataset` whose image column is not decoded."""

    def __init__(self, rows: Any, column: str) -> None:
        self.rows, self.column = rows, column

    def __call__(self, label: int, key: str) -> bytes:
        image = self.rows[int(key)][self.column] or {}
        if image.get("bytes") is not None:
            return bytes(image["bytes"])
        if image.get("path"):
            return _cached(Path(image["path"])).read_bytes()
        raise DataError("the row holds no image")


def _cached(path: Path) -> Path:
    """`path` if it lies in the cache of `datasets` or the hub: a row written by others may name any file at all."""
    import datasets.config
    from huggingface_hub.constants import HF_HUB_CACHE

    roots = (datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE)
    if any(path.resolve().is_relative_to(Path(root).expanduser().resolve()) for root in roots):
        return path
    raise DataError("the row holds no image bytes, only a path outside the cache")
