"""`digits:train` and `digits:test`: scikit-learn's 1,797 handwritten digits, 8 x 8 grey: no download."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from dap.data.base import Source
from dap.errors import DataError

SPLITS = ("train", "test")


def open_digits(split: str | None) -> Source:
    """The training (1,437 images) or test split (360): a fixed stratified 80/20 split, so nobody's numbers
    differ.

    Keys are scikit-learn's own row numbers. Mode "L". Raises: DataError unless `split` is "train" or "test".
    """
    if split not in SPLITS:
        wrong = (
            "'digits' alone would mix training and test images" if split is None else f"digits has no split {split!r}"
        )
        raise DataError(f"{wrong}; type digits:train or digits:test")
    from sklearn.model_selection import train_test_split

    _, labels = _digits()
    rows = np.arange(len(labels))
    parts = train_test_split(rows, test_size=0.2, stratify=labels, random_state=0)
    chosen = np.sort(parts[SPLITS.index(split)])
    keys = tuple(tuple(f"{row:04d}" for row in chosen[labels[chosen] == digit]) for digit in range(10))
    return Source(f"digits:{split}", tuple("0123456789"), keys, read_digit, mode="L")


def read_digit(label: int, key: str) -> bytes:
    """One digit as a PNG; its 17 grey levels 0..16 become round(v * 255 / 16)."""
    images, _ = _digits()
    grey = np.rint(images[int(key)] * 255 / 16).astype(np.uint8)
    out = io.BytesIO()
    # Stored, not compressed: the bytes, and so the digest, must not depend on the machine's zlib.
    Image.fromarray(grey).save(out, "PNG", compress_level=0)
    return out.getvalue()


@cache
def _digits() -> tuple[Any, Any]:
    """(images float [1797, 8, 8] in 0..16, labels int [1797])."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target
