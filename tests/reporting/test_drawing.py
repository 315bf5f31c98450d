"""Colours that can be seen, on light and on dark screens."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dap.reporting.drawing import _DARK, COLOURS, DARK_COLOURS, INK, PAPER
from dap.reporting.html import ROOM
from dap.reporting.plots import REAL

STYLE = (ROOM / "report.css").read_text(encoding="utf-8")
SCHEMES = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)]
LIGHT, DARK, *_ = SCHEMES


def light(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: str, b: str) -> float:
    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_letters_have_contrast_aa(scheme: dict[str, str]) -> None:
    for ground in ("ground", "card", "code"):
        for ink in ("ink", "quiet", "accent"):
            assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)
    assert contrast(scheme["warn"], scheme["warnground"]) >= 4.5
    assert contrast(scheme["ink"], scheme["warnground"]) >= 4.5
    assert contrast(scheme["ground"], scheme["accent"]) >= 4.5, "the chosen pill"
    assert contrast(scheme["focus"], scheme["card"]) >= 3


@pytest.mark.parametrize(("scheme", "colours"), [(LIGHT, COLOURS), (DARK, DARK_COLOURS)], ids=["light", "dark"])
def test_every_class_is_seen_on_the_map(scheme: dict[str, str], colours: tuple[str, ...]) -> None:
    assert len(set(colours)) == 8
    for colour in colours:
        assert contrast(colour, scheme["card"]) >= 3, "the map's background is that of cards"
    assert "globalAlpha" not in (ROOM / "report.js").read_text(encoding="utf-8"), "a paler dot has less contrast"


def test_figures_have_the_maps_colours_on_dark_screens_too() -> None:
    swaps = dict(re.findall(r'\[style\*="fill: (#\w{6})"\]\{fill:(#\w{6}) !important\}', _DARK))
    assert {colour.lower(): dark for colour, dark in zip(COLOURS, DARK_COLOURS, strict=True)}.items() <= swaps.items()
    assert contrast(INK, LIGHT["card"]) >= 4.5
    assert contrast(swaps[INK], DARK["card"]) >= 4.5, "letters"
    assert contrast(REAL, PAPER) >= 3
    assert swaps[PAPER] == DARK["card"]
