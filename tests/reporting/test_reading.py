"""What a set's files say: near-copies are a warning, but of a set aimed at groups a remark with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dap.config import MetricsConfig
from dap.guidance import PRESETS
from dap.metrics import measure
from dap.reporting import report
from dap.reporting.reading import read_set
from dap.seal import read_sealed, sealed
from small_sets import distilled, folder


@pytest.fixture
def close(tmp_path: Path) -> Path:
    """A set of which nine in ten images lie close to real ones, of real images one half."""
    real = folder(tmp_path / "real")
    out = distilled(tmp_path / "set", real)
    measure([out], real, config=MetricsConfig(features="pixels", points=0))
    shares(out, 0.9, 0.5)
    guided_by(out, preset="dap", reference=PRESETS["dap"]["reference"])
    return out


def shares(path: Path, own: float, usual: float | None) -> None:
    """Writes shares of near-copies into the set's metrics."""
    (file,) = (path / "metrics").glob("*.json")
    record: dict[str, Any] = json.loads(file.read_text())
    record["near_copies"]["mean"] = own
    record["yardstick"]["near_copies"]["mean"] = usual
    file.write_text(json.dumps(record))


def guided_by(path: Path, **guidance: str) -> None:
    record = read_sealed(path / "config.json", "")
    record["config"]["guidance"] = guidance
    (path / "config.json").write_bytes(sealed(record))


def begun_at(path: Path, share: float) -> None:
    record = read_sealed(path / "config.json", "")
    record["determines"]["guidance"] = {**record["determines"].get("guidance", {}), "start": share}
    (path / "config.json").write_bytes(sealed(record))


@pytest.mark.parametrize(("share", "warned"), [(0.25, True), (0.5, False)])
def test_images_that_began_late_at_real_ones_are_not_excused(close: Path, share: float, warned: bool) -> None:
    begun_at(close, share)
    view = read_set(close)
    (line,) = view.warnings if warned else view.remarks
    assert f"; each began at a real image and took the last {100 * share:.0f} % of the steps" in line
    assert ("look at them before you publish" in line) is warned
    report([close])
    text = (close / "report.html").read_text(encoding="utf-8")
    assert ('<aside class="remarks"' in text, '<aside class="warnings"' in text) == (not warned, warned)


def test_near_copies_of_a_set_aimed_at_groups_come_with_their_reason(close: Path) -> None:
    view = read_set(close)
    assert view.warnings == ()
    assert view.remarks == (
        "90 % of the images lie closer to a training image than its nearest real neighbour does, against 50 % of "
        "held-out real images",
    )
    assert report([close])["warnings"] == []
    text = (close / "report.html").read_text(encoding="utf-8")
    box = text[text.index('<aside class="remarks"') :].partition("</aside>")[0]
    assert view.remarks[0] in box
    assert "without any copy" in box
    assert '<aside class="warnings"' not in text, "what is explained is no fault"


@pytest.mark.parametrize("guidance", [{"preset": "none"}, {"preset": "dap-paper", "reference": "class"}])
def test_near_copies_of_any_other_set_are_a_warning(close: Path, guidance: dict[str, str]) -> None:
    guided_by(close, **guidance)
    view = read_set(close)
    assert view.remarks == ()
    assert [line.endswith(": look at them before you publish the set") for line in view.warnings] == [True]


@pytest.mark.parametrize(("own", "usual", "told"), [(0.5, 0.5, 0), (0.0, None, 0), (0.1, None, 1)])
def test_no_more_than_among_real_images_need_no_word(close: Path, own: float, usual: float | None, told: int) -> None:
    shares(close, own, usual)
    assert len(read_set(close).remarks) == told
