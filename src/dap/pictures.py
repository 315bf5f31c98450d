"""Grids of images as PNG files: sample grids of a training, contact sheets of a distilled set."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dap.disk import write_whole

INK, PAPER = (30, 30, 30), (255, 255, 255)


def to_uint8(images: Tensor) -> Tensor:
    """Images float [B, c, H, W] in [0, 1] -> uint8, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def grid(images: Tensor, columns: int, scale: int = 1, gap: int = 2) -> Image.Image:
    """uint8 [B, c, H, W], c 1 or 3, row by row on white; every image enlarged `scale` times without smoothing."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    cell_w, cell_h = width * scale + gap, height * scale + gap
    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), PAPER)
    for i, image in enumerate(images.cpu()):
        array = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        tile = Image.fromarray(array).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap + (i % columns) * cell_w, gap + (i // columns) * cell_h))
    return sheet


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tensor]]], columns: Sequence[str], scale: int, wrap: int = 5, gap: int = 10
) -> Image.Image:
    """One labelled row per (name, one uint8 [n, c, H, W] per column group), one titled group per class.

    Groups may hold any number of images, `wrap` of them side by side; each is as wide as its widest row.
    """
    font = ImageFont.load_default(15)
    tiles = [[grid(images, max(1, min(wrap, len(images))), scale) for images in groups] for _, groups in rows]
    widths = [max(row[k].width for row in tiles) for k in range(len(columns))]
    heights = [max(tile.height for tile in row) for row in tiles]
    left = 16 + max(int(font.getlength(name)) for name, _ in rows)
    sheet = Image.new("RGB", (left + sum(widths) + gap * len(widths), 30 + sum(heights) + gap * len(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    x = left
    for name, width in zip(columns, widths, strict=True):
        draw.text((x + 2, 6), shortened(name, width, font), fill=INK, font=font)
        x += width + gap
    y = 30
    for (name, _), row, height in zip(rows, tiles, heights, strict=True):
        draw.text((8, y + height // 2 - 9), name, fill=INK, font=font)
        x = left
        for tile, width in zip(row, widths, strict=True):
            sheet.paste(tile, (x, y))
            x += width + gap
        y += height + gap
    return sheet


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other, on white."""
    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), PAPER)
    y = 0
    for sheet in sheets:
        whole.paste(sheet, (0, y))
        y += sheet.height
    return whole


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`text` cut to `width` pixels, with an ellipsis when something is missing."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def save_png(picture: Image.Image, path: Path) -> Path:
    """Writes a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    write_whole(path, stream.getvalue())
    return path
