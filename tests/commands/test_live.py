"""What is to be seen while a distillation runs."""

import math
from pathlib import Path

import pytest
from PIL import Image

from dap.commands.live import Pace, show_last
from dap.distillation import Event
from dap.store import Store
from dap.types import Unit
from small_sets import distilled


def test_the_line_says_chunks_images_pace_and_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("dap.commands.live.time.monotonic", lambda: next(clock))
    units = tuple(Unit(0, i, i) for i in range(10))
    pace = Pace()
    assert pace.of(Event(0, 3, 0, 4, 20, 50, units=units)) == "chunk 1 of 3, 20 of 50 images"
    said = pace.of(Event(0, 3, 2, 4, 20, 50, distance=12.345, units=units))
    assert said == "chunk 1 of 3, 20 of 50 images, 0.5 images/s, D_K 12.3"
    assert pace.of(Event(0, 3, 4, 4, 30, 50, units=units)).endswith("30 of 50 images, 0.5 images/s")


def test_the_time_left_counts_guided_and_plain_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks of two plain steps (1 s) and two guided ones (10 s): at no time does the estimate go astray."""
    clock = iter([0.0, 1.0, 11.0, 21.0, 22.0, 23.0, 33.0])
    monkeypatch.setattr("dap.commands.live.time.monotonic", lambda: next(clock))
    units, pace = (Unit(0, 0, 0),), Pace((False, False, True, True))
    left = []
    for chunk, step in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (1, 3)):
        event = Event(chunk, 2, step, 4, chunk, 2, units=units)
        pace.of(event)
        left.append(pace.left(event))
    assert left == [math.inf, math.inf, 32.0, 22.0, 21.0, 20.0, 10.0]


def test_without_a_known_chain_the_time_left_is_the_meters() -> None:
    assert Pace().left(Event(0, 1, 1, 4, 0, 1)) is None


def test_the_last_pictures_lie_side_by_side(tmp_path: Path) -> None:
    store = Store.open(distilled(tmp_path / "d", "nowhere"))
    strip = Image.open(show_last(store, store.chunks[0].units[:4]))
    assert (strip.width, strip.height) == (4 * 66 + 2, 64 + 4)
    own = Image.open(store.path / "data" / "apple" / "00000.png")
    assert strip.getpixel((2, 2)) == own.getpixel((0, 0))
    assert not store.verify(), "a preview is no part of the set"
