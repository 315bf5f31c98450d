"""Every kind of stored image comes out upright, in the mode that was asked for, with the right pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from dap.data.decode import decode, fit, pixels, upright
from dap.errors import DataError


def stored(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def red_left() -> Image.Image:
    """8 x 4: the left half red, the right half blue."""
    image = Image.new("RGB", (8, 4), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 4, 4))
    return image


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_four_formats_decode_to_rgb(form: str) -> None:
    image = decode(stored(Image.new("RGB", (16, 16), (200, 40, 40)), form), "RGB")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - (200, 40, 40)).max() <= 6


def test_grey_becomes_three_equal_channels_and_colour_becomes_grey() -> None:
    grey = pixels(decode(stored(Image.new("L", (2, 2), 77)), "RGB"))
    assert grey.shape == (3, 2, 2)
    assert (grey == 77).all()
    assert pixels(decode(stored(Image.new("RGB", (2, 2), (255, 0, 0))), "L"))[0, 0, 0] == 76


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_palette_with_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 50, 50, 50])
    image.putpixel((1, 0), 1)
    out = pixels(decode(stored(image, transparency=bytes([0, 255])), mode))
    assert (out[:, 0, 0] == 255).all()
    assert (out[:, 0, 1] == 50).all()


def test_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert (pixels(decode(stored(image), "RGB")) == 255).all()
    half = Image.new("LA", (1, 1), (0, 128))
    assert abs(int(pixels(decode(stored(half), "L"))[0, 0, 0]) - 127) <= 1


def test_transparent_colour_of_a_plain_image_is_laid_on_white() -> None:
    data = stored(Image.new("RGB", (1, 1), (10, 20, 30)), transparency=(10, 20, 30))
    assert (pixels(decode(data, "RGB")) == 255).all()


def test_cmyk_jpeg_keeps_its_colour() -> None:
    data = stored(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG", quality=95)
    out = np.asarray(decode(data, "RGB")).astype(int)
    assert np.abs(out - (250, 10, 10)).max() <= 8


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    out = pixels(decode(stored(Image.fromarray(values)), "L"))
    assert out.tolist() == [[[0, 1, 128, 255]]]


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixels(decode(stored(image), "L")).tolist() == [[[0, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    seen = red_left()
    back = {  # how a camera lays down what is seen upright
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    laid = seen.transpose(back[orientation]) if orientation in back else seen
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = decode(stored(laid, exif=exif), "RGB")
    assert out.size == (8, 4)
    assert np.array_equal(np.asarray(out), np.asarray(seen))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
def test_broken_exif_does_not_cost_the_image(exif: bytes) -> None:
    assert decode(stored(red_left(), "JPEG", exif=exif), "RGB").size == (8, 4)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="floating-point"):
        upright(Image.new("F", (2, 2)), "RGB")


def test_fit_cuts_the_centre_without_resampling_when_the_short_side_fits() -> None:
    out = np.asarray(fit(red_left(), 4))
    assert np.array_equal(out, np.asarray(red_left())[:, 2:6])


def test_fit_equals_resizing_the_short_side_and_cutting_the_centre() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (10, 30, 3), np.uint8)
    image = Image.fromarray(noise)
    resized = image.resize((15, 5), Image.Resampling.BICUBIC).crop((5, 0, 10, 5))
    assert np.array_equal(np.asarray(fit(image, 5)), np.asarray(resized))
    assert fit(Image.new("L", (100_000, 1)), 256).size == (256, 256)  # never grows beyond the square


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_files_are_found(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    data = stored(Image.fromarray(noise), form)
    for share in (0.5, 0.9):
        with pytest.raises(DataError):
            decode(data[: int(len(data) * share)], "RGB")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "empty"), (b"hello", "not an image"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image")]
)
def test_what_is_no_image_says_so(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        decode(data, "RGB")


@pytest.mark.parametrize("limit", [100, 200])  # Pillow warns above its limit, and raises above twice the limit
def test_too_many_pixels_are_an_error_and_not_a_warning(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(Image.new("L", (17, 17)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=f"more than {limit} pixels"):
            decode(data, "RGB")
