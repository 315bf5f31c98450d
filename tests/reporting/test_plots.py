"""Figures: what they say in words and tables, that both files are there and repeatable, and what the font can write."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from dap.reporting.drawing import COLOURS, Drawn, lacking, writable
from dap.reporting.picture_plots import look_of, neighbours, trajectory, tsne
from dap.reporting.plots import Axis, Bar, Line, accuracy_bars, accuracy_by_ipc, cost_bars, radar

AXES = [
    Axis(name="accuracy", centre=0, rim=100, unit=" %"),
    Axis(name="energy distance", says="representativeness", centre=2, rim=0),
    Axis(name="coverage", centre=0, rim=100, unit=" %"),
]
BARS = [
    Bar(name="$mine", group="g", mean=0.5, sd=0.1),
    Bar(name="theirs", group="g", mean=0.6, hollow=True),
    Bar(name="random", group="g", mean=0.4, baseline=True),
]
TILE = Image.new("RGB", (8, 8), "red")
STEPS = [{"step": 1, "guided": 2.0}, {"step": 2, "guided": None}]


def all_figures() -> list[Drawn]:
    points = [[0, 0, "a", 0.1, 0.2], [-1, 1, "b", 0.5, 0.5], [-1, 0, "c", 0.9, 0.1]]
    return [
        radar(AXES, [("one", [50.0, 1.0, 20.0]), ("two", [None, 0.5, 30.0])]),
        accuracy_bars(BARS),
        accuracy_by_ipc([Line(name="m", points=((1, 0.5, 0.1), (10, 0.8, None)))], 0.99, "p"),
        cost_bars([("one", 0.5, "cpu")]),
        tsne("map", "t", points, ["cat", "dog"], "real"),
        neighbours(
            [("cat", [(TILE, TILE), (TILE, None)]), ("a name that is far too long for it", [(TILE, TILE)])], "pixels"
        ),
        trajectory({"class": "cat", "index": 0, "steps": STEPS}, {"guided": [TILE, TILE]}),
    ]


def test_every_figure_is_svg_and_png_and_the_same_again() -> None:
    for first, second in zip(all_figures(), all_figures(), strict=True):
        assert first.svg.startswith(b"<?xml"), first.name
        assert first.png.startswith(b"\x89PNG"), first.name
        assert (first.svg, first.png) == (second.svg, second.png), first.name
        assert first.alt
        assert first.caption
        assert b"<text" in first.svg, "letters stay letters: they can be searched and enlarged"
        assert b"prefers-color-scheme: dark" in first.for_the_page()
        assert b"prefers-color-scheme" not in first.svg, "the file for print has one look"


def test_an_axis_has_its_good_end_at_the_rim() -> None:
    higher, lower = AXES[0], AXES[1]
    assert (higher.place(0), higher.place(100), higher.place(150)) == (0, 1, 1)
    assert (lower.place(2), lower.place(0), lower.place(9)) == (0, 1, 0)
    assert higher.label == "accuracy\nhigher is better\n0 to 100 %"
    assert lower.label == "representativeness:\nenergy distance\nlower is better\n2 to 0"
    svg = radar(AXES, [("one", [50.0, 1.0, 20.0])]).svg.decode()
    assert all(line in svg for axis in AXES for line in axis.label.split("\n")), "in the figure, not beside it"


def test_published_values_are_told_from_measured_ones() -> None:
    drawn = accuracy_bars(BARS)
    assert [row[-1] for row in drawn.rows[1:]] == ["measured", "published", "measured"]
    assert "theirs 60.0 % (published)" in drawn.alt
    assert "each the best of many looks" in drawn.caption
    assert "published" not in accuracy_bars([bar for bar in BARS if not bar.hollow]).caption
    assert drawn.svg.count(b"fill-opacity: 0; stroke: #22262b") == 1, "its mark alone is hollow"


def test_a_cost_far_from_the_others_does_not_hide_them() -> None:
    near, far = (cost_bars([("one", 0.2, "cpu"), ("two", seconds, "cpu")]) for seconds in (1.9, 31.0))
    assert "logarithmic" not in near.caption
    assert "each line is ten times the one before" in far.caption
    assert b"logarithmic" in far.svg, "the axis says so, too"
    ticks = [f">{value}</text>".encode() for value in ("0.1", "1", "10", "100")]
    assert all(tick in far.svg for tick in ticks)
    assert cost_bars([("one", 0.1, "cpu"), ("two", 100.0, "cpu")]).png, "powers of ten themselves"


def test_a_radar_can_be_read_on_a_phone() -> None:
    svg = radar([*AXES, AXES[0]], [("one", [50.0, 1.0, 20.0, 30.0])]).svg.decode()
    wide = float(re.findall(r'<svg [^>]*width="([\d.]+)pt"', svg)[0])
    letters = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert letters
    assert min(letters) * 330 / wide >= 9, "pixels on a screen of 375, less its margins"


def test_names_that_the_font_cannot_write_become_numbers() -> None:
    names = ["cat", "ユリ", "a$b$", "x" * 99]
    shown = writable(names)
    assert shown[:2] == ["cat", "class 1"]
    assert shown[2] == r"a\$b\$", "no formula"
    assert len(shown[3]) == 24
    assert writable(["runs/of/last/week/ipc-10"], 12, tail=True) == ["…week/ipc-10"]
    assert lacking(names) == " The figure's font lacks their letters: class 1 is ユリ."
    assert lacking(["cat"]) == ""
    assert writable(["套", "a"], what="set") == ["set 0", "a"]
    assert "set 0 is 套" in cost_bars([("套", 0.5, "cpu")]).caption


@pytest.mark.parametrize("name", ["قطة", "חתול", "a\u0301", "\ud800", "\x07", "🐈"])
def test_no_name_stops_a_figure_or_makes_it_warn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [[kind, label, "f", 0.1 * label, 0.5] for kind in (0, -1) for label in (0, 1)]
    for shapes in (True, False):
        monkeypatch.setattr("dap.reporting.drawing.SHAPES", shapes)
        assert tsne("map", "t", points, [name, "dog"], "real").png
        assert (writable([name]) == ["class 0"]) == (name != "a\u0301" and not (shapes and name in ("قطة", "חתול")))


def test_classes_are_told_apart_by_colour_and_mark() -> None:
    looks = [look_of(label) for label in range(40)]
    assert len(set(looks)) == 40
    assert len(set(COLOURS)) == 8
