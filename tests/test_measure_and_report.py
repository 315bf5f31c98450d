"""`dap measure` and `dap report`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from small_sets import distilled, folder
from typed import dap


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return folder(tmp_path / "real")


def test_measure_then_report(real: Path, tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", real)
    measured = dap("measure", out, "--reference", real, "--features", "pixels", "--json")
    assert measured.returncode == 0, measured.stderr
    record = json.loads(measured.stdout)
    assert set(record["representativeness"]) == {"energy_distance", "mean_distance"}
    assert set(record["diversity"]) == {"vendi", "mean_pairwise"}
    for name in ("coverage", "near_copies"):
        assert set(record[name]) == {"mean", "low", "high"}
    assert measured.stderr.strip().splitlines()[-1] == f"next: dap report {out}"

    reported = dap("report", out, "--json")
    assert reported.returncode == 0, reported.stderr
    said = json.loads(reported.stdout)
    assert said["report"] == str(out / "report.html")
    assert said["bytes"] == (out / "report.html").stat().st_size
    assert (said["images"], said["shown"]) == (6, 6)
    assert reported.stderr.strip().splitlines()[-1] == f"next: python -m webbrowser {out / 'report.html'}"


def test_what_is_being_measured_is_said_by_its_class(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dap.terminal.PLAIN_SECONDS", 0)
    said = dap("measure", distilled(tmp_path / "d", real), "--features", "pixels").stderr
    assert ", features of class apple\n" in said


def test_a_report_on_several_sets_leaves_each_ones_own_alone(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = distilled(tmp_path / "sets" / "d1", real), distilled(tmp_path / "sets" / "d2", real, seed=1)
    assert dap("report", one).returncode == 0
    own = (one / "report.html").read_bytes()
    assert json.loads(dap("report", one, two, "--json").stdout)["report"] == str(tmp_path / "sets" / "report.html")
    assert (one / "report.html").read_bytes() == own
    assert json.loads(dap("report", one, one, "--json").stdout)["report"] == str(one / "report.html")
    monkeypatch.chdir(tmp_path)
    typed = dap("report", "sets/d1", "sets/d2")
    assert typed.stdout.startswith("sets/report.html: ")
    assert typed.stderr.strip().splitlines()[-1] == "next: python -m webbrowser sets/report.html"


def test_where_sets_have_no_folder_in_common_the_report_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dap.reporting import beside

    monkeypatch.chdir(tmp_path)
    assert beside([Path("a"), Path("b")]) == Path("report.html")
    assert beside([Path("/there/a"), tmp_path / "b"]) == Path("report.html"), "not into the root"
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert beside([Path("a"), Path("a/b")]) == Path("report.html"), "a holds a set itself"
    assert beside([tmp_path / "a" / "c", Path("a/b")]) == tmp_path / "a" / "report.html"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert beside([Path("a/b"), Path("a/c")]) == Path("report.html")


def test_the_table_has_the_real_images_beside_the_set(real: Path, tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", real)
    said = dap("measure", out, "--features", "pixels", "--set", "metrics.points=0").stdout
    assert "energy distance ↓" in said
    assert "pixels, against 18 images of" in said
    assert [line.split()[1] for line in said.splitlines() if "│ real" in line] == ["real"]


def test_any_folder_can_be_measured_and_stays_as_it_is(real: Path, tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", 3, seed=1)
    done = dap("measure", mine, "--reference", real, "--features", "pixels")
    assert done.returncode == 0, done.stderr
    assert "next:" not in done.stderr, "there is nothing to report on"
    out = distilled(tmp_path / "d", real)
    both = dap("measure", mine, out, "--reference", real, "--features", "pixels")
    assert both.stderr.strip().splitlines()[-1] == f"next: dap report {out}", "which a plain folder would stop"
    assert sorted(p.name for p in mine.iterdir()) == ["apple", "pear"]
    assert "reading 2 sets" in both.stderr
    assert "reading 1 set and" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["measure", "real"], "add --reference DATA"),
        (["measure", "nowhere", "--reference", "real"], "there is no 'nowhere'"),
        (["measure", "real", "--reference", "real"], "records no diffusion backbone; name one with --backbone"),
        (["measure", "real", "--reference", "real", "--features", "pixles"], "did you mean 'pixels'"),
        (["measure", "real", "--reference", "real", "--set", "metrics.timstep=3"], "did you mean 'timestep'"),
        (["measure", "real", "--reference", "real", "--set", "run.ipc=3"], "reads the tables metrics, backbone"),
        (["measure", "one", "--reference", "real", "--features", "pixels"], "at least two are needed"),
        (["report", "real"], "is no distilled dataset (found apple, pear, no config.json)"),
        (["report", "nowhere"], "no such directory"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "one", 2, ("apple",))
    done = dap(*words, "-q")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""


def test_a_trace_is_kept_beside_the_set(tmp_path: Path) -> None:
    from dap.testing import save_tiny_dit, tiny_dit

    model = save_tiny_dit(tmp_path / "m", tiny_dit(classes=10, class_names=tuple("0123456789")))
    words = ["distill", "digits:train", "--backbone", model, "--ipc", 1, "--set", "sampling.steps=3"]
    words += ["--set", "guidance.reference_size=3", "--out", tmp_path / "d"]
    wrong = dap(*words, "--trace", "3:9", "-q")
    assert wrong.returncode == 1
    assert not (tmp_path / "d").exists(), "a trace that cannot be made is found before anything is"
    done = dap(*words, "--trace", "3:0", "--trace", "4:0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d" / "trace" / "3" / "00000.json").exists()
    assert (tmp_path / "d" / "preview.png").exists()
    reported = dap("report", tmp_path / "d", "--json")
    assert "trajectory_4_0.svg" in reported.stdout
