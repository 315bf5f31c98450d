"""Metrics as people read them: sizes apart, and no direction where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dap.config import MetricsConfig
from dap.metrics import measure
from dap.reporting import report
from dap.reporting.numbers import METRICS, metric_table
from dap.reporting.reading import read_set
from dap.reporting.together import spaces, together
from small_sets import distilled, folder

PIXELS = MetricsConfig(features="pixels", points=0)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two sets of two images a class and between them one of one, measured."""
    root = tmp_path_factory.mktemp("numbers")
    real = folder(root / "real")
    found = [distilled(root / name, real, ipc=ipc) for name, ipc in (("two", 2), ("one", 1), ("again", 2))]
    measure(found, real, config=PIXELS)
    return found


def table(sets: list[Path]) -> dict[str, Any]:
    (found,) = spaces(together([read_set(path) for path in sets]))
    return metric_table(found)


def test_each_size_has_real_images_of_its_own(sets: list[Path]) -> None:
    found = table(sets)
    assert found["groups"] == [(2, ["two", "again", None]), (1, ["one", None])]
    energy = found["rows"][0]["cells"]
    for path, shown in ((sets[0], energy[0][-1]), (sets[1], energy[1][-1])):
        yard: Mapping[str, Any] = (read_set(path).metrics or {})["yardstick"]
        assert shown[0] == (f"{yard['representativeness']['energy_distance']['mean']:.3g}")
    assert energy[0][-1] != energy[1][-1]


def test_sizes_are_told_in_the_tables_head(sets: list[Path], tmp_path: Path) -> None:
    text = Path(report(sets, tmp_path / "r.html")["report"]).read_text(encoding="utf-8")
    head = text[text.index('<table class="metrics">') :]
    assert head.index("2 images a class</th>") < head.index("1 image a class</th>")
    assert head[: head.index("</thead>")].count("real images</th>") == 2


def test_real_images_that_were_not_measured_have_no_column(sets: list[Path], tmp_path: Path) -> None:
    view = read_set(sets[1])
    found = metric_table([(view, {**(view.metrics or {}), "yardstick": None})])
    assert [len(row["cells"][0]) for row in found["rows"]] == [1] * len(METRICS)
    assert found["groups"] == [(1, [view.name])]
    copy = shutil.copytree(sets[1], tmp_path / "copy")
    for file in (copy / "metrics").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "yardstick": None}))
    pages = [Path(report([path], tmp_path / f"{path.name}.html")["report"]).read_text() for path in (sets[1], copy)]
    assert ["The column “real images”" in page for page in pages] == [True, False]
    assert ["real images</th>" in page for page in pages] == [True, False]
    assert ["under Metrics, how often real images are" in page for page in pages] == [True, False]


def test_what_grows_with_diversity_has_no_better_end() -> None:
    says = {name: words for name, _, _, words in METRICS}
    assert {name for name, words in says.items() if "is better" not in words} == {"Mean D_K", "Near-copies"}
    assert "rises with diversity" in says["Mean D_K"]
