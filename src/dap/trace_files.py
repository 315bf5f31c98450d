"""Where traces lie in a set: for those who write them and those who only read them."""

from __future__ import annotations


def trace_files(folder: str, index: int) -> dict[str, str]:
    """Where an image's trace lies, relative to the dataset."""
    stem = f"trace/{folder}/{index:05d}"
    return {"record": f"{stem}.json", "guided": f"{stem}-guided.png", "unguided": f"{stem}-unguided.png"}
