"""Pictures small enough to travel inside one HTML file: WebP, as large as a budget of bytes allows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dap.data import Source, open_dataset
from dap.data.decode import decode, fit
from dap.errors import DapError

SIDES = (256, 192, 128, 96, 64, 48, 32, 24)
QUALITY = 82
_TRIED = 24  # pictures whose size is measured to choose a side

Reader = Callable[[], Image.Image | None]


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Data URIs in the order of what was asked for, None for what could not be read; `side` in pixels."""

    uris: tuple[str | None, ...]
    side: int


def thumbnails(readers: Sequence[Reader], budget: int, largest: int = SIDES[0]) -> Thumbnails:
    """The largest side at which all pictures fit into `budget` bytes of HTML; no picture is enlarged.

    The smallest side is taken even when it does not fit: whoever has more pictures than that shows fewer of them.
    """
    some = [picture for reader in readers[:: max(1, len(readers) // _TRIED)] if (picture := reader()) is not None]
    sides = [side for side in SIDES if side <= largest] or [SIDES[-1]]
    side = next((s for s in sides if _mean_bytes(some, s) * len(readers) <= budget), sides[-1])
    uris = tuple(None if (p := reader()) is None else uri(p, side) for reader in readers)
    return Thumbnails(uris=uris, side=min(side, max((min(p.size) for p in some), default=side)))


def uri(picture: Image.Image, side: int | None = None, *, exact: bool = False) -> str:
    """A picture as a data URI, its square centre no larger than `side`; `exact` keeps every pixel as it is."""
    return f"data:image/webp;base64,{base64.b64encode(_webp(picture, side, exact)).decode()}"


def file_reader(path: Path) -> Reader:
    """Reads an image of a set; None for a file that is gone or damaged."""

    def read() -> Image.Image | None:
        try:
            return decode(path.read_bytes(), "RGB")
        except (OSError, DapError):
            return None

    return read


def real_images(name: str) -> Source | None:
    """The real images that metrics were measured against, where they are at hand: nothing is fetched for a report."""
    if not name or name.startswith("hf:"):
        return None
    try:
        return open_dataset(name)
    except (DapError, OSError):
        return None


def source_reader(source: Source, class_name: str, key: str) -> Reader:
    """Reads one image of a source by its class and key; None when it is not there."""

    def read() -> Image.Image | None:
        try:
            label = source.class_names.index(class_name)
            if key not in known(source, label):
                return None
            return decode(source.read_bytes(label, key), "RGB")
        except (ValueError, OSError, DapError):
            return None

    return read


def known(source: Source, label: int) -> frozenset[str]:
    """The keys of a class: only what the source itself lists is ever opened, whatever a file says."""
    cache: dict[int, frozenset[str]] = source.__dict__.setdefault("_known_keys", {})
    if label not in cache:
        cache[label] = frozenset(source.keys[label])
    return cache[label]


def _webp(picture: Image.Image, side: int | None, exact: bool = False) -> bytes:
    if side is not None:
        picture = fit(picture, min(side, *picture.size))
    out = io.BytesIO()
    small = max(picture.size) <= 32  # a few pixels are enlarged by the reader: keep every one as it is
    picture.save(out, "WEBP", quality=QUALITY, lossless=small or exact, method=4)
    return out.getvalue()


def _mean_bytes(pictures: Sequence[Image.Image], side: int) -> float:
    return sum(len(_webp(p, side)) * 4 / 3 + 30 for p in pictures) / max(1, len(pictures))
