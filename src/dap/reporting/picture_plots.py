"""Figures with pictures in them: t-SNE maps, synthetic images beside their real neighbours, one image's way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Rectangle
from PIL import Image

from dap.reporting.drawing import COLOURS, FAINT, INK, MARKERS, Drawn, drawn, lacking, sheet, short, writable

Pair = tuple[Image.Image, Image.Image | None]  # a synthetic image and its nearest real one
MOST_CLASSES = 40  # that colour and mark can tell apart
LETTER = 0.08  # inches of an average letter, rounded up


def look_of(label: int) -> tuple[str, str]:
    """Colour and mark of a class: eight colours, then the same with the next mark."""
    return COLOURS[label % 8], MARKERS[label // 8 % 8]


def tsne(name: str, title: str, points: Sequence[Sequence[Any]], classes: Sequence[str], real: str) -> Drawn:
    """Real images as small dots, synthetic ones large; `points` as in the metrics, at least three of them."""
    names = writable(classes)
    known = [p for p in points if isinstance(p[1], int) and 0 <= p[1] < len(classes)]
    labels = sorted({p[1] for p in known})
    columns = max(1, min(len(labels), int(5.4 / (0.45 + LETTER * max(len(names[label]) for label in labels)))))
    with sheet(5.4, 5.2) as figure:
        plot = figure.add_subplot()
        for label in labels:
            colour, mark = look_of(label) if len(labels) <= MOST_CLASSES else (COLOURS[7], "o")
            for kind, look in (
                (-1, {"s": 7, "alpha": 0.45, "linewidths": 0}),
                (0, {"s": 44, "edgecolors": INK, "linewidths": 0.8, "zorder": 3}),
            ):
                mine = [p for p in known if p[1] == label and p[0] == kind]
                plot.scatter(
                    [p[3] for p in mine],
                    [p[4] for p in mine],
                    color=colour,
                    marker=mark,
                    rasterized=True,
                    label=names[label] if kind == 0 and len(labels) <= MOST_CLASSES else None,
                    **look,
                )
        plot.set(xticks=[], yticks=[], aspect="equal")
        plot.spines[:].set_visible(False)
        if len(labels) <= MOST_CLASSES:
            figure.legend(loc="outside lower center", ncols=columns, fontsize=9, handletextpad=0, columnspacing=1)
        counts = sum(p[0] == -1 for p in known), sum(p[0] == 0 for p in known)
        text = (
            f"Small: {counts[0]} {real} images; large, outlined: {counts[1]} synthetic ones. "
            "Neighbours are near each other; distances between clusters and their sizes mean nothing."
        ) + lacking(classes)
        return drawn(figure, name, title, text, f"t-SNE map of {len(known)} images in {len(labels)} classes. {text}")


def neighbours(rows: Sequence[tuple[str, Sequence[Pair]]], features: str) -> Drawn:
    """One row a class: each synthetic image with its nearest real image to the right of it."""
    names = writable([name for name, _ in rows])
    most = max(len(pairs) for _, pairs in rows)
    left, side, pair = 0.2 + LETTER * max(map(len, names)), 0.6, 1.32  # inches: nothing here needs a layout engine
    width, height = left + pair * most, 0.06 + 0.66 * len(rows)
    with sheet(width, height) as figure:
        figure.set_layout_engine("none")
        plot = figure.add_axes((0, 0, 1, 1))
        for y, (_, pairs) in enumerate(rows):
            bottom = height - 0.66 * (y + 1)
            plot.text(left - 0.1, bottom + side / 2, names[y], ha="right", va="center")
            for x, both in enumerate(pairs):
                for k, picture in enumerate(both):
                    start = left + pair * x + (side + 0.03) * k
                    if picture is not None:
                        _show(plot, picture, (start, start + side, bottom, bottom + side))
                    if k == 0:
                        plot.add_patch(Rectangle((start, bottom), side, side, fill=False, ec=COLOURS[1], lw=2))
        plot.set(xlim=(0, width), ylim=(0, height))
        plot.set_axis_off()
        text = f"Framed: synthetic. To the right of each: the real image of its class nearest to it in {features}."
        text += lacking([name for name, _ in rows])
        alt = f"Contact sheet of {sum(len(pairs) for _, pairs in rows)} synthetic images beside their real neighbours."
        return drawn(figure, "neighbours", "Synthetic images and their real neighbours", text, alt)


def trajectory(
    record: Mapping[str, Any], strips: Mapping[str, Sequence[Image.Image]], name: str = "trajectory"
) -> Drawn:
    """Estimates of x_0 on the way, a row each with and without guidance, and D_K below."""
    steps = [row for row in record["steps"] if isinstance(row, dict)]
    frames = max(len(strip) for strip in strips.values())
    with sheet(0.9 + 0.62 * frames, 0.66 * len(strips) + 2.0) as figure:
        grid = figure.add_gridspec(len(strips) + 1, frames, height_ratios=[0.66] * len(strips) + [1.6])
        for y, (kind, strip) in enumerate(strips.items()):
            for x, picture in enumerate(strip):
                plot = figure.add_subplot(grid[y, x])
                plot.set(xticks=[], yticks=[])
                plot.spines[:].set_visible(False)
                _show(plot, picture)
                if y == 0 and x < len(steps):
                    plot.set_title(str(steps[x].get("step")), fontsize=8, fontweight="normal", loc="center")
                if x == 0:
                    plot.set_ylabel(kind, rotation=0, ha="right", va="center", fontsize=9)
        below = figure.add_subplot(grid[len(strips), :])
        rows = [["step", *strips], *([str(s.get("step")), *(short(s.get(kind)) for kind in strips)] for s in steps)]
        for k, kind in enumerate(strips):
            seen = [(s["step"], s[kind]) for s in steps if isinstance(s.get(kind), int | float)]
            look: dict[str, Any] = {"color": COLOURS[k], "marker": MARKERS[k], "linestyle": ("-", "--")[k % 2]}
            below.plot([at for at, _ in seen], [d for _, d in seen], markersize=4, label=kind, **look)
        below.set(xlabel="reverse steps done", ylabel="mean D_K to the class")
        below.grid(color=FAINT, linewidth=0.3, alpha=0.6)
        below.legend(fontsize=9)
        title = f"How {record.get('class')}:{record.get('index')} came about"
        text = (
            f"Estimates of the finished image at some of {record.get('count')} steps, from the same start; below, the "
            f"mean distance D_K at {record.get('tap')} to {record.get('real_images')} real images of the class at the "
            "same noise level."
        )
        return drawn(figure, name, title, text, f"{title}. {text}", rows)


def _show(plot: Any, picture: Image.Image, extent: tuple[float, float, float, float] | None = None) -> None:
    smooth = "nearest" if picture.width <= 96 else "antialiased"
    plot.imshow(picture.convert("RGB"), interpolation=smooth, extent=extent)
