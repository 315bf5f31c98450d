"""Grids and contact sheets: where each image lies, and that nothing is smoothed or lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dap.commands import demo
from dap.pictures import contact_sheet, grid, save_png, to_uint8
from typed import dap


def test_floats_are_rounded_and_clipped() -> None:
    images = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.2]).view(1, 1, 1, 5)
    assert to_uint8(images).flatten().tolist() == [0, 0, 128, 255, 255]


def test_a_grid_puts_image_k_in_row_k_over_columns() -> None:
    images = torch.arange(5, dtype=torch.uint8).mul(50).view(5, 1, 1, 1).expand(5, 1, 4, 4)
    picture = np.asarray(grid(images, columns=2, scale=3, gap=2))
    assert picture.shape == (3 * 14 + 2, 2 * 14 + 2, 3)
    for k in range(5):
        row, column = divmod(k, 2)
        tile = picture[2 + row * 14 : 14 + row * 14, 2 + column * 14 : 14 + column * 14]
        assert np.all(tile == 50 * k)
    assert np.all(picture[-14:-2, -14:-2] == 255), "the sixth place is paper"


def test_a_contact_sheet_has_a_row_for_each_name_and_a_group_for_each_class() -> None:
    def group(value: int) -> torch.Tensor:
        return torch.full((3, 3, 2, 2), value, dtype=torch.uint8)

    sheet = contact_sheet([("real", [group(10), group(20)]), ("DAP", [group(30), group(40)])], ["a", "b" * 99], scale=2)
    values = set(np.unique(np.asarray(sheet)).tolist())
    assert {10, 20, 30, 40} <= values


def test_an_idle_machine_or_one_thread_needs_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, threads, hint in ((0.1, 8, False), (99.0, 1, False), (99.0, 8, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        assert bool(demo.crowded()) == hint


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    path = save_png(Image.new("RGB", (3, 2)), tmp_path / "new" / "p.png")
    with Image.open(path) as picture:
        assert picture.size == (3, 2)
    assert [p.name for p in path.parent.iterdir()] == ["p.png"]


def test_the_demo_makes_sets_a_table_and_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "REPEATS", 1)
    monkeypatch.setattr(demo, "SETTINGS", {"sampling": {"steps": 2}})
    monkeypatch.setattr(demo, "EPOCHS_SCALE", 0.02)
    monkeypatch.setattr(demo, "MAP_POINTS", 40)
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    done = dap("demo", "--out", tmp_path, "--ipc", 1, "--ipc", 2, "--json")
    first, busy = done.stderr.splitlines()[:2]
    assert first == "4 sets to distil (unguided and DAP, 1 and 2 per class), then 7 short trainings and a report"
    assert busy.startswith("note: the machine is busy (load 99.0 on ")
    assert "protocol hard-tiny, convnet-2w64: 7 trainings of " in done.stderr
    result = json.loads(done.stdout)
    names = [(Path(row["set"]).name, row["ipc"]) for row in result["results"]]
    assert names == [
        ("unguided", 1),
        ("dap", 1),
        ("unguided", 2),
        ("dap", 2),
        ("random", 1),
        ("random", 2),
        ("full", None),
    ]
    assert Path(result["contact_sheet"]) == tmp_path / "contact_sheet.png"
    assert len(list((tmp_path / "ipc-2" / "dap" / "data").rglob("*.png"))) == 20
    assert Path(result["report"]) == tmp_path / "report.html"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "20 images in place of 1,437 real ones" in page, "the larger distilled set comes first"
    assert "Vendi score" in page
