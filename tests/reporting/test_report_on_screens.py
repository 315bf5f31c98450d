"""The report on phones and dark screens: what goes on beyond the edge is told, nothing jumps, marks stay small."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import all_of, emulated, in_view, one, until
from PIL import Image

from dap.config import MetricsConfig
from dap.metrics import measure
from dap.reporting import report
from dap.reporting.drawing import COLOURS, DARK_COLOURS
from small_sets import distilled, folder

CLASSES = [f"class {k}" for k in range(40)]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 40 classes, in which every image is a near-copy."""
    root = tmp_path_factory.mktemp("long")
    real = folder(root / "real", 4, CLASSES)
    out = distilled(root / "set", real, ipc=6, names=CLASSES)
    measure([out], real, config=MetricsConfig(features="pixels", points=0))
    (file,) = (out / "metrics").glob("*.json")
    record: dict[str, Any] = json.loads(file.read_text())
    record["neighbours"] = {c: [[*row[:3], True] for row in rows] for c, rows in record["neighbours"].items()}
    file.write_text(json.dumps(record))
    return Path(report([out])["report"])


def edges(page: Any, selector: str, where: str) -> list[float]:
    """How far a scrolling box's outermost pixels, left and right, lie from its ground: in grey levels, median.

    where  the place to scroll to, in JavaScript of the box `b`
    """
    box = in_view(page, selector)
    page.execute_script(f"const b = arguments[0]; b.scrollLeft = {where}", box)
    shot = np.array(Image.open(io.BytesIO(box.screenshot_as_png)).convert("L"), dtype=float)
    ground = np.median(shot)
    return [float(np.median(np.abs(shot[:, side] - ground))) for side in (slice(1, 4), slice(-4, -1))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("selector", [".bar nav", "#evaluation .scroll"])
def test_what_goes_on_beyond_the_edge_is_shaded_there(browser: Any, whole: Path, selector: str, scheme: str) -> None:
    with emulated(browser, 375, scheme):
        browser.get((whole / "report.html").as_uri())
        browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        beyond = browser.execute_script(
            "return arguments[0].scrollWidth - arguments[0].clientWidth", one(browser, selector)
        )
        assert beyond > 20, "else there is nothing to tell"
        left, right = edges(browser, selector, "0")
        assert right > 20 > 8 > left
        left, right = edges(browser, selector, "b.scrollWidth")
        assert left > 20 > 8 > right


def test_what_has_no_more_has_no_shade(browser: Any, whole: Path) -> None:
    with emulated(browser, 1280):
        browser.get((whole / "report.html").as_uri())
        assert max(edges(browser, ".bar nav", "0")) < 8


def test_nothing_moves_when_pictures_come(browser: Any, long: Path) -> None:
    with emulated(browser, 375):
        browser.get(long.as_uri())
        tall = "return [document.documentElement.scrollHeight, document.querySelector('#limits').offsetTop]"
        before = browser.execute_script(tall)
        filled = "return [...document.querySelectorAll('.class')].filter(c => c.querySelector('button')).length"
        assert browser.execute_script(filled) < len(CLASSES), "the last ones are not there yet"
        for section in all_of(browser, ".class, .figures figure"):
            browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", section)
        until(browser, lambda d: len(all_of(d, ".pictures img")) == 6 * len(CLASSES))
        loaded = "return [...document.querySelectorAll('.figures img')].every(i => i.complete && i.naturalWidth)"
        until(browser, lambda d: d.execute_script(loaded))
        assert browser.execute_script(tall) == before


def test_a_near_copys_mark_leaves_the_picture_free(browser: Any, long: Path) -> None:
    with emulated(browser, 375):
        browser.get(long.as_uri())
        in_view(browser, "#gallery")
        button = until(browser, lambda d: all_of(d, ".pictures .copy"))[0]
        size = "const s = getComputedStyle(arguments[0], '::after'); return [parseFloat(s.width), parseFloat(s.height)]"
        wide, high = browser.execute_script(size, button)
        assert wide >= 4
        assert wide * high < 0.03 * button.rect["width"] * button.rect["height"]
        assert "closer to a real image" in button.get_attribute("title")
        assert one(button, "img").get_attribute("alt").endswith(", near-copy"), "for whoever does not see the dot"


def test_the_map_takes_the_colours_of_the_scheme(browser: Any, whole: Path) -> None:
    browser.get((whole / "report.html").as_uri())
    seen = (
        "return [...document.querySelectorAll('#legend canvas')].map(c => "
        "'#' + [...c.getContext('2d').getImageData(16, 16, 1, 1).data].slice(0, 3)"
        ".map(v => v.toString(16).padStart(2, '0')).join('').toUpperCase())"
    )
    for scheme, colours in (("light", COLOURS), ("dark", DARK_COLOURS)):
        with emulated(browser, scheme=scheme):
            until(browser, lambda d, colours=colours: d.execute_script(seen) == list(colours[:3]))
