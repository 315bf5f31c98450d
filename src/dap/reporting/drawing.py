"""What all figures share: one style, colours that the colour-blind can tell apart, names that the font can write."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import bidirectional

import matplotlib as mpl
from matplotlib import ft2font
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image

from dap.disk import write_whole

# after Okabe and Ito, told apart under every common colour blindness: each at least 3:1 against its ground
COLOURS = ("#0060A0", "#C24E00", "#009A70", "#C56A9C", "#C98600", "#3A9AD9", "#5A3E00", "#6E6E6E")
DARK_COLOURS = ("#3D9BE0", "#F0763B", "#1FC79A", "#E6A3C8", "#F2B632", "#9AD8FF", "#F0E442", "#8A8A8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
SHAPES = hasattr(ft2font, "__libraqm_version__")  # older ones write Arabic and Hebrew letter by letter, backwards
_LEFT = ("R", "AL")  # letters that run from right to left
INK, FAINT, PAPER = "#22262b", "#8b939c", "#ffffff"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "dap",
    "savefig.dpi": 200,
}
_FILLS = {INK: "#e8eaed", FAINT: "#9aa3ad", PAPER: "#1b1e23", **dict(zip(COLOURS, DARK_COLOURS, strict=True))}
_STROKES = {**_FILLS, FAINT: "#6b747e"}
_DARK = "".join(
    f'[style*="{what}: {light.lower()}"]{{{what}:{dark} !important}}'
    for what, pairs in (("fill", _FILLS), ("stroke", _STROKES))
    for light, dark in pairs.items()
)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A finished figure. `alt` says in words what it shows, `rows` are its numbers, the first row their names."""

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes
    png: bytes
    rows: tuple[tuple[str, ...], ...] = ()

    def save(self, folder: Path) -> list[Path]:
        """Writes NAME.svg and NAME.png, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}.svg", folder / f"{self.name}.png"]
        for path, data in zip(paths, (self.svg, self.png), strict=True):
            write_whole(path, data)
        return paths

    def for_the_page(self) -> bytes:
        """The SVG on no ground of its own, its ink light where the reader's screen is dark."""
        head, tag, rest = self.svg.partition(b"<defs>")
        style = f"<style>@media (prefers-color-scheme: dark) {{{_DARK}}}</style>".encode()
        return head + style + tag + rest if tag else self.svg

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the PNG, in pixels: the shape of the SVG, too."""
        return Image.open(io.BytesIO(self.png)).size


@contextmanager
def sheet(width: float = 4.6, height: float = 3.6) -> Iterator[Figure]:
    """An empty figure in the house style, in inches, narrow enough to be read on a phone; no global state."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def drawn(figure: Figure, name: str, title: str, caption: str, alt: str, rows: Sequence[Sequence[str]] = ()) -> Drawn:
    """Renders a figure both ways; the same figure gives the same bytes."""
    files = {}
    for kind, ground in (("svg", "none"), ("png", PAPER)):
        out = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        with mpl.rc_context(STYLE):
            figure.savefig(out, format=kind, facecolor=ground, metadata=metadata)
        files[kind] = out.getvalue()
    table = tuple(tuple(str(cell) for cell in row) for row in rows)
    return Drawn(name=name, title=title, caption=caption, alt=alt, rows=table, **files)


def writable(names: Sequence[str], longest: int = 24, *, tail: bool = False, what: str = "class") -> list[str]:
    """Names as figures can write them: shortened, and `class 3` where the font lacks a letter.

    tail  keep the end of a long name: of a path it is the end that tells sets apart
    what  what these are names of
    """
    out = []
    for number, name in enumerate(names):
        text = re.sub(r"\s+", " ", name)
        if len(text) > longest:
            text = "…" + text[1 - longest :] if tail else text[: longest - 1] + "…"
        out.append(text.replace("$", r"\$") if _has(text) else f"{what} {number}")  # a dollar would begin a formula
    return out


def lacking(names: Sequence[str], most: int = 10, what: str = "class") -> str:
    """A sentence on the names that figures write as numbers, "" when there are none."""
    lost = [f"{what} {number} is {name}" for number, name in enumerate(names) if not _has(name)]
    more = f" and {len(lost) - most} more" if len(lost) > most else ""
    return f" The figure's font lacks their letters: {', '.join(lost[:most])}{more}." if lost else ""


def _has(text: str) -> bool:
    return all(ord(c) in _letters() and (SHAPES or bidirectional(c) not in _LEFT) for c in text if not c.isspace())


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont

    return frozenset(FT2Font(findfont(STYLE["font.family"])).get_charmap())


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as people read it; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def short(value: float | None) -> str:
    """Three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"
