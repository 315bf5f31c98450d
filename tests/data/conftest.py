"""Tiny datasets, written where a test wants them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_images import Writer, encoded


@pytest.fixture
def write_classes(tmp_path: Path) -> Writer:
    """write_classes("set", cat=3, dog=2): `tmp_path/set` with so many 4 x 4 PNG images a class."""

    def write(where: str = "set", counts: dict[str, int] | None = None, **more: int) -> Path:
        root = tmp_path / where
        for label, (name, count) in enumerate({**(counts or {}), **more}.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (root / name / f"{i:02d}.png").write_bytes(encoded(40 * label + i))
        return root

    return write


@pytest.fixture
def write_parquet(tmp_path: Path) -> Writer:
    """write_parquet("train.parquet", labels, names=...): rows whose grey value is the row number."""

    def write(
        where: str,
        labels: list[object],
        *,
        names: list[str] | None = None,
        columns: tuple[str, str] = ("image", "label"),
        group: int = 3,
        blobs: dict[int, bytes | None] | None = None,
    ) -> Path:
        import json

        import pyarrow as pa
        import pyarrow.parquet as pq

        images = [{"bytes": (blobs or {}).get(row, encoded(row)), "path": f"{row}.png"} for row in range(len(labels))]
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({columns[0]: pa.array(images, struct), columns[1]: labels})
        if names is not None:
            feature = {columns[1]: {"names": names, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
        path = tmp_path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=group)
        return path

    return write
