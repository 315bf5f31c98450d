"""The table: methods beside each other at every network and IPC, and nothing in a cell that does not belong there."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from dap.errors import ConfigError
from dap.evaluation.scores import score
from dap.evaluation.table import as_csv, as_markdown, grid_of, write_table


def row(name: str, ipc: int | None, last: list[float], **more: Any) -> dict[str, Any]:
    usual = {"network": "resnetap-10", "image_size": 224, "method": None, "recipe": None, "source": None}
    best = score([value + 0.01 for value in last]).as_record()
    numbers = {"last": score(last).as_record(), "best": best, "repeats": len(last), "evaluations": 100, "published": []}
    return {"set": name, "ipc": ipc, **usual, **numbers, **more}


def result(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    test = {"name": "T", "part": "test", "images": 500, "counts": [50] * 10, "stored_size": 375}
    settings = {"evaluation": {"epochs_scale": 1.0}}
    usual = {"protocol": "hard-adamw", "scaled": False, "test": test, "settings": settings, "across_sets": []}
    usual["teacher"] = None
    return {**usual, **more, "results": list(rows)}


DAP = {"method": "dap", "recipe": "a"}
PAPER = [{"method": "Full", "mean": 0.946, "sd": 0.005, "source": "DAP Table 3"},
         {"method": "DAP", "mean": 0.678, "sd": 0.012, "source": "DAP Table 3"}]  # fmt: skip


def test_one_method_is_one_column_with_a_row_for_each_ipc() -> None:
    grid = grid_of(
        result(
            row("runs/10", 10, [0.6, 0.7], **DAP),
            row("runs/50", 50, [0.8, 0.8], **DAP),
            row("random", 10, [0.5], method="random", source="R"),
            row("full", None, [0.9], method="full", source="R"),
            row("runs/10", 10, [0.3], network="convnet-6", **DAP),
        )
    )
    assert grid.columns == ("dap", "random", "full")
    assert grid.keys == (("resnetap-10", 224, 10), ("resnetap-10", 224, 50), ("convnet-6", 224, 10))
    assert grid.cells[0, "dap"].last == pytest.approx(0.65)
    assert (1, "random") not in grid.cells
    assert grid.cells[0, "full"] == grid.cells[1, "full"]  # the full data stand in every row of their network
    assert (2, "full") not in grid.cells


def test_generation_seeds_share_a_cell_and_other_recipes_and_folders_do_not() -> None:
    seeds = row("s0", 10, [0.6, 0.64], **DAP), row("s1", 10, [0.7, 0.72], **DAP)
    grid = grid_of(result(*seeds, row("photos", 10, [0.2])))
    assert grid.columns == ("dap", "photos")
    assert (grid.cells[0, "dap"].sets, grid.cells[0, "dap"].sd) == (2, pytest.approx(0.0636, abs=1e-4))
    grid = grid_of(result(*seeds, row("weaker", 10, [0.5], method="dap", recipe="b")))
    assert grid.columns == ("s0", "s1", "weaker")  # one name for two recipes would hide which is which


def test_csv_has_fractions_and_markdown_per_cent_with_the_best_beside() -> None:
    given = result(row("a|b", 10, [0.6, 0.7]), row("c", 10, [0.5]))
    head, line = csv.reader(io.StringIO(as_csv(grid_of(given))))
    assert head == ["network", "image_size", "ipc", *(f"{n} {p}" for n in ("a|b", "c") for p in ("last", "sd", "best"))]
    assert line == ["resnetap-10", "224", "10", "0.65", "0.0707107", "0.66", "0.5", "", "0.51"]
    text = as_markdown(given)
    assert "| network | px | IPC | a\\|b | c |" in text
    assert "| resnetap-10 | 224 | 10 | 65.0 ± 7.1 (66.0) | 50.0 (51.0) |" in text
    assert "best, of 100 looks at the test data, flatters" in text


def test_published_figures_are_best_accuracies_in_columns_of_their_own() -> None:
    given = result(row("d", 10, [0.6], **DAP, published=PAPER), row("d2", 50, [0.7], **DAP))
    grid = grid_of(given)
    assert grid.columns == ("dap", "DAP, published", "Full, published")
    assert (grid.cells[0, "DAP, published"].last, grid.cells[0, "DAP, published"].best) == (None, 0.678)
    assert (1, "DAP, published") not in grid.cells
    text = as_markdown(given)
    assert "| 60.0 (61.0) | (67.8 ± 1.2) | (94.6 ± 0.5) |" in text
    assert "Published: DAP Table 3; the best of 100 looks" in text


def test_what_is_scaled_or_validation_says_so_below() -> None:
    scaled = result(row("d", 10, [0.6]), scaled=True, settings={"evaluation": {"epochs_scale": 0.2}})
    assert "Protocol hard-adamw, scaled by 0.2: not comparable with other results; test data T" in as_markdown(scaled)
    part = {"name": "T", "part": "validation", "images": 5, "counts": [5], "stored_size": 224}
    assert "looks at the validation data" in as_markdown(result(row("d", 10, [0.6]), test=part))
    assert "enlarged" not in as_markdown(result(row("d", 10, [0.6]), test=part))
    small = as_markdown(result(row("d", 10, [0.6]), test={**part, "stored_size": 64}))
    assert "The validation images are of 64 px and were enlarged." in small


def test_only_the_full_data_is_a_table_too() -> None:
    assert "| resnetap-10 | 224 | all | 90.0 (91.0) |" in as_markdown(
        result(row("full", None, [0.9], method="full", source="R"))
    )


def test_files_are_named_by_their_form(tmp_path: Path) -> None:
    given = result(row("d", 10, [0.6]))
    write_table(given, tmp_path / "new" / "t.CSV")
    write_table(given, tmp_path / "t.md")
    assert (tmp_path / "new" / "t.CSV").read_text() == as_csv(grid_of(given))
    assert (tmp_path / "t.md").read_text() == as_markdown(given)
    with pytest.raises(ConfigError, match=r"t.txt' is neither a .csv nor a .md file"):
        write_table(given, tmp_path / "t.txt")
