"""Writes a parquet dataset out as class folders of JPEGs, as a user's own photographs would lie on disk.

    python benchmarks/photo_folder.py PARQUET_FOLDER OUT [--names imagenette]

PARQUET_FOLDER holds train.parquet and test.parquet; OUT gets train/<class>/*.jpg and test/<class>/*.jpg. `--names`
replaces the wnids of an ImageNet subset by its names.
"""

from __future__ import annotations

import argparse
import csv
from importlib.resources import files
from pathlib import Path

from dap.data import open_dataset


def names_of(subset: str | None) -> dict[str, str]:
    """wnid -> name of an ImageNet subset."""
    if subset is None:
        return {}
    table = files("dap.data").joinpath("imagenet_subsets.csv").read_text(encoding="utf-8").splitlines()
    return {row["wnid"]: row["name"] for row in csv.DictReader(table) if row["subset"] == subset}


def write(parquet: Path, out: Path, subset: str | None) -> None:
    """Both splits; the stored JPEG bytes as they are."""
    names = names_of(subset)
    for split in ("train", "test"):
        source = open_dataset(str(parquet), split=split)
        for label, class_name in enumerate(source.class_names):
            folder = out / split / names.get(class_name, class_name)
            folder.mkdir(parents=True, exist_ok=True)
            for key in source.keys[label]:
                (folder / f"{key}.jpg").write_bytes(source.read_bytes(label, key))
        print(split, source.counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names")
    arguments = parser.parse_args()
    write(arguments.parquet, arguments.out, arguments.names)
