"""`dap evaluate` as it is typed: what it says, what it leaves on disk, how it ends, killed and interrupted for real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from evaluation_sets import NAMES, distilled, folder, picture
from PIL import Image
from typer.testing import CliRunner, Result

from dap.cli import app

QUICK = ("--protocol", "hard-tiny", "--repeats", "2", "--epochs-scale", "0.02", "--device", "cpu")


def dap(*words: object) -> Result:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)], prog_name="dap")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return folder(tmp_path / "plain", dict.fromkeys(NAMES, 2))


def test_a_matrix_from_the_command_line(tmp_path: Path, real: Path, held_out: Path) -> None:
    sets = [distilled(tmp_path / f"d{seed}", real, seed=seed) for seed in (0, 1)]
    words = [*sets, "--test", held_out, *QUICK, "--network", "convnet-2w64", "--network", "convnet-3"]
    words += ["--baseline", "kmeans", "--scores", "--table", tmp_path / "t.md", "--table", tmp_path / "t.csv"]
    first = dap(*words, "--cache", tmp_path / "cache")
    assert first.exit_code == 0, first.stderr
    for said in ("last %", "best %", "looks", "sd between sets", "sd between training seeds", "LRS", "ARS"):
        assert said in first.stdout, said
    assert first.stdout.index("last %") < first.stdout.index("best %")
    assert first.stderr.startswith(f"reading 2 sets and {held_out}\n")
    assert first.stderr.splitlines()[-1] == f"next: dap report {sets[0]} {sets[1]}"
    assert "Protocol hard-tiny, scaled by 0.02: not comparable" in first.stdout
    assert "| convnet-3 | 8 | 2 |" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "t.csv").read_text().startswith("network,image_size,ipc,dap last,dap sd,dap best,kmeans last")
    assert len(list((tmp_path / "cache").glob("*.json"))) == 2 * 2 * (3 + 1)  # kmeans, random, full; random plain
    again = dap(*words, "--cache", tmp_path / "cache", "--json")
    record = json.loads(again.stdout)
    assert (record["measured"], record["kept"]) == (0, 2 * 2 * (5 + 3))
    where = f"(kept in the sets' evaluation/cells and {tmp_path / 'cache'})"
    assert f"32 of 32 trainings were measured earlier {where}" in again.stderr
    assert record["cache"] == str(tmp_path / "cache")


def test_scores_are_spoken_of_when_they_were_asked_for_and_what_takes_the_time_is_said(
    tmp_path: Path, real: Path, held_out: Path
) -> None:
    done = dap(distilled(tmp_path / "d", real, ipc=1), "--test", held_out, *QUICK, "--baseline", "random")
    assert "LRS" not in done.stderr
    assert "looks at the test data a run: --set evaluation.evaluations=10" in done.stderr


def test_how_much_there_is_to_train_is_said_before_it_is_trained(plain: Path, real: Path, held_out: Path) -> None:
    words = [plain, "--test", held_out, "--device", "cpu", "--protocol", "hard-small", "--repeats", 2]
    first = dap(*words, "--set", "evaluation.epochs_scale=0.002").stderr.splitlines()
    assert first[1] == "protocol hard-small, convnet-3: 2 trainings of 4 steps"
    again = dap(*words, "--set", "evaluation.epochs_scale=0.002", "--network", "convnet-3", "--network", "convnet-2w64")
    assert "protocol hard-small, convnet-3, convnet-2w64: 2 trainings of 4 steps, 2 more are known" in again.stderr
    known = dap(*words, "--set", "evaluation.epochs_scale=0.002").stderr
    assert "protocol hard-small, convnet-3: all 2 trainings are known from earlier" in known


@pytest.mark.parametrize(
    ("protocol", "steps", "device", "warned"),
    [
        ("hard-small", 2000, "cpu", True),
        ("hard-small", 2000, "cuda", False),
        ("hard-small", 20, "cpu", False),
        ("hard-tiny", 300, "cpu", False),
        ("soft-rded", 2000, "cpu", False),
    ],
)
def test_a_long_training_on_a_cpu_names_a_shorter_one(protocol: str, steps: int, device: str, warned: bool) -> None:
    from dap.commands.results import outlook
    from dap.evaluation.matrix import Ahead
    from dap.evaluation.protocols import PROTOCOLS

    plan = {"protocol": PROTOCOLS[protocol], "networks": ("convnet-3",), "trainings": 6, "kept": 0, "steps": 6 * steps}
    said = outlook(Ahead(**plan, device=device))
    assert f"6 trainings of {steps:,} steps" in said
    assert ("for a first look: --protocol hard-tiny --repeats 1" in said) == warned


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--test", "digits:test", "--protocol", "hardtiny"], "did you mean 'hard-tiny'"),
        (["--test", "digits:test", "--network", "convnet"], "convnet"),
        (["--test", "digits:test", "--baseline", "randon"], "did you mean 'random'"),
        ([], "no test data; add --test DATA"),
        (["--val-fraction", "0.1"], "add --real DATA"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_read(words: list[str], says: str) -> None:
    done = dap("digits:train", *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert says in done.stderr
    assert "reading" not in done.stderr


def test_published_figures_stand_once_beside_the_best_of_their_kind() -> None:
    from dap.commands.tables import accuracy_table
    from dap.evaluation.published import find_published

    figures = [row.as_record() for row in find_published("imagenette", "convnet-6", 10, "hard-adamw")]
    spread = {"mean": 0.5, "sd": None}
    row = {"set": "d", "ipc": 10, "network": "convnet-6", "last": spread, "best": spread, "repeats": 1, "seconds": 1.0}
    table = accuracy_table("t", [{**row, "published": figures}, {**row, "set": "random", "published": figures}])
    sets, lasts, bests = ([str(cell) for cell in table.columns[i].cells] for i in (0, 3, 4))
    assert sets[:3] == ["d", "random", "Random, published"]  # after the last row of the kind
    assert sets.count("DAP, published") == 1
    assert (lasts[2], bests[2]) == ("", "46.0 ± 0.5")


def test_interrupted_in_the_middle_the_same_command_goes_on(tmp_path: Path, real: Path, held_out: Path) -> None:
    out = distilled(tmp_path / "d", real)
    words = ["evaluate", str(out), "--test", str(held_out), "--protocol", "hard-tiny", "--repeats", "25"]
    words += ["--epochs-scale", "0.1", "--device", "cpu", "--json"]
    cells = out / "evaluation" / "cells"
    command = [sys.executable, "-m", "dap.cli", *words]
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=alike) as running:
        until = time.monotonic() + 200
        while len(list(cells.glob("*.json"))) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, talk = running.communicate(timeout=60)
    assert running.returncode == 130, talk
    said = re.search(r"interrupted; (\d+) of 25 trainings are kept\. To go on: dap evaluate", talk)
    assert said is not None, talk
    assert "Traceback" not in talk
    kept = len(list(cells.glob("*.json")))
    assert 2 <= kept < 25
    assert kept - 1 <= int(said[1]) <= kept  # the last one may have ended as it was interrupted
    record = json.loads(dap(*words[1:]).stdout)
    assert (record["kept"], record["measured"]) == (kept, 25 - kept)
    assert sorted(p.suffix for p in cells.iterdir()) == [".json"] * 25


def one_line(done: Result) -> str:
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("reading ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs-scale", "0"], "evaluation.epochs_scale is 0.0; use a number above 0"),
        (["--epochs-scale", "-1"], "epochs_scale is -1.0"),
        (["--repeats", "0"], "repeats is 0; use 1 or more"),
        (["--protocol", "hard-smal"], "unknown protocol 'hard-smal'; did you mean 'hard-small'"),
        (["--network", "resnetap-1"], "unknown network 'resnetap-1'; did you mean 'resnetap-10'"),
        (["--network", "convnet"], "needs a depth"),
        (["--baseline", "kmean"], "unknown baseline 'kmean'; did you mean 'kmeans'"),
        (["--baseline", "random"], "add --real DATA"),
        (["--scores"], "add --real DATA"),
        (["--baseline", "random", "--real", "nowhere"], "nowhere"),
        (["--val-fraction", "0.1"], "add --real DATA"),
        (["--val-fraction", "1"], "val_fraction is 1.0; use a number between 0 and 1"),
        (["--set", "evaluation.evaluations=0"], "evaluations is 0; use 1 (the last alone) or more"),
        (["--set", "evaluation.epoch_scale=1"], "did you mean 'epochs_scale'"),
        (["--table", "out.txt"], "'out.txt' is neither a .csv nor a .md file"),
        (["--device", "cuda:99"], "cannot be used here"),
        (["--test", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(words: list[str], says: str, plain: Path, held_out: Path) -> None:
    quick = [] if "--protocol" in words or "--repeats" in words or "--epochs-scale" in words else QUICK
    assert says in one_line(dap(plain, *([] if "--test" in words else ["--test", held_out]), *quick, *words))
    assert list(Path(os.environ["DAP_CACHE"]).rglob("*.json")) == []


def test_no_test_data_at_all_is_refused_with_what_to_type(plain: Path) -> None:
    done = dap(plain, *QUICK)
    assert "add --test DATA (or --real DATA --val-fraction 0.1" in one_line(done)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"apple": 1, "pear": 1}, "only in the test set: 'plum'"),
        ({"apple": 1, "pear": 1, "plum": 1, "x_plum": 1}, "only in the distilled set: 'x_plum'"),
        ({"apple": 1, "pear": 1, "x_plum": 1}, "only in the test set: 'plum'; only in the distilled set: 'x_plum'"),
        ({"apple": 1, "pear": 1, "plum": 0}, "class 'plum' in"),
    ],
)
def test_folders_that_do_not_fit_the_test_data(
    counts: dict[str, int], says: str, tmp_path: Path, held_out: Path
) -> None:
    assert says in one_line(dap(folder(tmp_path / "a", counts), "--test", held_out, *QUICK))


def test_images_of_mixed_size_or_damaged(plain: Path, held_out: Path) -> None:
    Image.fromarray(picture(1, 0, size=16)).save(plain / "pear" / "001.png")
    assert "images differ in size" in one_line(dap(plain, "--test", held_out, *QUICK))
    (plain / "pear" / "001.png").write_bytes(b"no image")
    assert "'pear/001.png'" in one_line(dap(plain, "--test", held_out, *QUICK))


def test_a_table_of_labels_that_does_not_match_its_file(tmp_path: Path, held_out: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    def png(label: int) -> dict[str, object]:
        file = io.BytesIO()
        Image.fromarray(picture(label, 0)).save(file, "png")
        return {"bytes": file.getvalue(), "path": None}

    where = tmp_path / "table"
    where.mkdir()
    pq.write_table(pa.table({"image": [png(0), png(1), png(2)], "label": [0, 1, 2]}), where / "train.parquet")
    (where / "classes.txt").write_text("apple\npear\n")
    said = one_line(dap(where / "train.parquet", "--test", held_out, *QUICK))
    assert "label" in said
    assert "2" in said


def test_classes_in_another_order_are_mapped_by_name(tmp_path: Path, held_out: Path) -> None:
    """The same images under names that sort otherwise, on both sides: labels turn, accuracy does not fall."""
    turned = {"apple": "c_apple", "pear": "b_pear", "plum": "a_plum"}
    accuracies = []
    for names in (dict(zip(NAMES, NAMES, strict=True)), turned):
        root = tmp_path / names["apple"]
        given = folder(root / "set", {names[n]: 4 for n in NAMES})
        test = folder(root / "test", {names[n]: 6 for n in NAMES}, seed=1)
        done = dap(given, "--test", test, "--protocol", "hard-tiny", "--repeats", 1, "--epochs-scale", 0.1, "--json")
        accuracies.append(json.loads(done.stdout)["results"][0]["last"]["mean"])
    assert min(accuracies) > 0.8


def test_judging_without_test_data(plain: Path, real: Path) -> None:
    done = dap(plain, "--real", real, "--val-fraction", 0.25, *QUICK, "--baseline", "full", "--json")
    record = json.loads(done.stdout)
    assert (record["test"]["part"], record["test"]["images"]) == ("validation", 9)
    assert record["results"][1]["counts"] == [9, 9, 9]


def test_a_set_behind_random_real_images_is_named_for_each_network_that_finds_it_so() -> None:
    from dap.commands.results import behind_random

    def row(name: str, network: str, mean: float, source: str | None = None, ipc: int = 10) -> dict[str, Any]:
        return {"set": name, "network": network, "ipc": ipc, "source": source, "last": {"mean": mean}}

    rows = [
        row("noise", "convnet-3", 0.3),
        row("noise", "resnet-18", 0.5),
        row("random", "convnet-3", 0.4),  # a user's own set of that name
        row("random", "convnet-3", 0.45, "photos:train"),
        row("random", "resnet-18", 0.45, "photos:train"),
        row("random", "convnet-3", 0.9, "photos:train", ipc=50),
        row("herding", "convnet-3", 0.1, "photos:train"),
    ]
    said = behind_random(rows)
    assert [line.partition(" is worth")[0] for line in said] == ["noise", "random"]
    assert "less to convnet-3 than as many random real images (30.0 against 45.0 %)" in said[0]
