"""Figures: what they say in words and tables, that both files are there and repeatable, and what the font can write."""

from __future__ import annotations

from PIL import Image

from dap.reporting.drawing import COLOURS, Drawn, lacking, writable
from dap.reporting.picture_plots import look_of, neighbours, trajectory, tsne
from dap.reporting.plots import Axis, Bar, Line, accuracy_bars, accuracy_by_ipc, cost_bars, radar
from dap.reporting.published import published_for
from dap.reporting.reading import Result

AXES = [
    Axis(name="accuracy", centre=0, rim=100, unit=" %"),
    Axis(name="energy distance", centre=2, rim=0),
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
        neighbours([("cat", [(TILE, TILE), (TILE, None)]), ("a name that is far too long for it", [(TILE, TILE)])]),
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
    assert lower.label == "energy distance\nlower is better\n2 to 0"


def test_published_values_are_told_from_measured_ones() -> None:
    drawn = accuracy_bars(BARS)
    assert [row[-1] for row in drawn.rows[1:]] == ["measured", "published", "measured"]
    assert "theirs 60.0 % (published)" in drawn.alt


def test_names_that_the_font_cannot_write_become_numbers() -> None:
    names = ["cat", "ユリ", "a$b$", "x" * 99]
    shown = writable(names)
    assert shown[:2] == ["cat", "class 1"]
    assert shown[2] == r"a\$b\$", "no formula"
    assert len(shown[3]) == 24
    assert writable(["runs/of/last/week/ipc-10"], 12, tail=True) == ["…week/ipc-10"]
    assert lacking(names) == " The figure's font lacks their letters: class 1 is ユリ."
    assert lacking(["cat"]) == ""


def test_classes_are_told_apart_by_colour_and_mark() -> None:
    looks = [look_of(label) for label in range(40)]
    assert len(set(looks)) == 40
    assert len(set(COLOURS)) == 8


def result_of(**changes: object) -> Result:
    given = {
        "name": "d",
        "baseline": False,
        "protocol": "hard-adamw",
        "scaled": False,
        "network": "resnetap-10",
        "ipc": 10,
        "mean": 0.6,
        "sd": None,
        "values": (0.6,),
        "best": None,
        "row": {},
        "whole": {},
        "file": "f",
    }
    return Result(**{**given, **changes})  # type: ignore[arg-type]


def test_published_values_are_those_that_the_evaluation_found_comparable() -> None:
    figure = {"method": "DAP", "mean": 0.678, "sd": None, "source": "DAP Table 3"}
    damaged = [None, {"method": "DiT"}, {"mean": "high"}]
    (cell,) = published_for(result_of(row={"published": [figure, *damaged]}))
    assert (cell.method, cell.mean, cell.sd, cell.source) == ("DAP", 0.678, None, "DAP Table 3")
    for nothing in ({}, {"published": []}, {"published": "much"}):
        assert published_for(result_of(row=nothing)) == ()
