"""What the tests of `dap.data` write to disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Writer = Callable[..., Path]


def encoded(value: int, size: tuple[int, int] = (4, 4), form: str = "PNG") -> bytes:
    """A flat grey image of one value as a file's bytes."""
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0]), value % 256, np.uint8)).save(out, form)
    return out.getvalue()
