"""One stored file -> one upright image in RGB or grey, or the reason why not.

Everything that real folders hold ends up here: photographs lying on their side (EXIF), palettes, CMYK,
transparency, 16-bit greys, half-copied files, and images that are far too large to be honest ones.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dap.errors import DataError

MODES = ("RGB", "L")
# A closed list: Pillow would otherwise also start Ghostscript for an EPS that calls itself .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_EXIF_ORIENTATION = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_filters = threading.Lock()


def decode(data: bytes, mode: str) -> Image.Image:
    """The image in a file's contents, upright, as "RGB" or "L". Raises: DataError with the bare reason."""
    if not data:
        raise DataError("the file is empty")
    try:
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()  # here, not in _quiet: a truncated file raises, and threads decode side by side
        return upright(image, mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels" if Image.MAX_IMAGE_PIXELS else "too many pixels"
        raise DataError(f"it has {limit}; scale it down first") from None
    except UnidentifiedImageError:
        # Pillow's own text holds a memory address: not the same on the next run
        raise DataError("not an image in a format that is read (JPEG, PNG, WebP, BMP)") from None
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything: OSError, SyntaxError, struct.error, EOFError ...
        raise DataError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def upright(image: Image.Image, mode: str) -> Image.Image:
    """The image as a viewer would show it, in "RGB" or "L" (8 bits).

    The EXIF orientation is applied; transparency is laid on white; 16-bit greys are scaled to 0..255.
    Raises: DataError for floating-point images, whose range nobody knows; ValueError for modes Pillow cannot
    convert.
    """
    turn = _turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode == "F":
        raise DataError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")  # also for palettes: only RGBA keeps their transparency
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    elif image.mode not in MODES:
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an image, `size` pixels wide; antialiased bicubic, no resampling when the short
    side fits.

    The same as resizing the short side and then cutting, in one step: a strip of 10,000 x 2 pixels must not grow to a
    gigabyte on the way.
    """
    width, height = image.size
    short = min(width, height)
    if short == size:
        left, top = (width - size) // 2, (height - size) // 2
        return image if width == height else image.crop((left, top, left + size, top + size))
    x, y = (width - short) / 2, (height - short) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + short, y + short))


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """An "RGB" or "L" image as uint8 [c, h, w], c = 3 or 1."""
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        with _quiet():
            return _TURN.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # broken EXIF, in any of many ways, around sound pixels: shown as stored, as viewers do
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow opens a 16-bit PNG as "I;16", older versions as "I"; convert("L") would clip instead of scale.
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's size warning is an error, its others are dropped; locked, as all threads share the filters."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
