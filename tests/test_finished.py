"""Where a user points, and what lies there: a set, several below, none. Typed as a user types it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dap.testing import save_tiny_dit, tiny_dit
from small_sets import distilled, folder
from typed import dap


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """demo/ipc-1/dap, demo/ipc-1/unguided and demo/seed-0 beside something else."""
    real = folder(tmp_path / "real")
    for path in ("demo/ipc-1/dap", "demo/ipc-1/unguided", "demo/seed-0"):
        distilled(tmp_path / path, real, ipc=1)
    (tmp_path / "demo" / "report-figures").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["report", "demo"],
        ["verify", "demo"],
        ["evaluate", "demo", "--test", "real"],
        ["measure", "demo", "--reference", "real"],
    ],
)
def test_a_folder_of_sets_names_them(words: list[str], demo: Path) -> None:
    done = dap(*words, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "dap: demo holds 3 distilled sets and is no distilled dataset itself: name them: "
        "demo/ipc-1/dap demo/ipc-1/unguided demo/seed-0\n"
    )


def test_what_lies_deeper_or_is_hidden_is_not_looked_for(demo: Path) -> None:
    (demo / "demo").rename(demo / "far")
    (demo / "above" / "it").mkdir(parents=True)
    (demo / "far").rename(demo / "above" / "it" / "far")
    assert "make one with dap distill --out above" in dap("report", "above").stderr
    (demo / "above").rename(demo / ".above")
    (demo / "new").mkdir()
    (demo / ".above").rename(demo / "new" / ".above")
    assert "make one with dap distill --out new" in dap("report", "new").stderr


def test_a_damaged_set_is_mended_by_the_command_that_is_named(tmp_path: Path) -> None:
    model = save_tiny_dit(tmp_path / "m", tiny_dit(classes=10, class_names=tuple("0123456789")))
    words = ["digits:train", "--backbone", model, "--ipc", 1, "--set", "sampling.steps=2", "--seed", 3]
    out = tmp_path / "my set"
    assert dap("distill", *words, "--set", "guidance.reference_size=3", "--out", out).returncode == 0
    (out / "data" / "1" / "00000.png").write_bytes(b"damaged")
    found = dap("verify", out)
    assert found.returncode == 1
    assert "data/1/00000.png has changed" in found.stdout
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("next: dap distill digits:train --backbone ")
    assert dap(*shlex.split(last)[2:]).returncode == 0
    assert "next:" not in dap("verify", out).stderr
    (out / "data" / "1" / "mine.txt").write_text("x")
    foreign = dap("verify", out)
    assert (foreign.returncode, foreign.stderr) == (1, ""), "distilling again does not move a stranger's file away"
