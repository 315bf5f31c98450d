"""`dap teacher` and `dap evaluate` with soft labels and lists, as a user types them."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dap.cli import app

NAMES = ("lying", "standing", "checked")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three patterns under noise, with train, test and one image a class to judge."""
    root = tmp_path_factory.mktemp("photos")
    across, down = np.indices((8, 8)) % 2
    patterns = dict(zip(NAMES, (across, down, across ^ down), strict=True))
    for part, (split, count) in enumerate((("train", 12), ("test", 6), ("tiny", 3))):
        for label, (name, pattern) in enumerate(patterns.items()):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([part, label, i]).random((8, 8, 3))
                image = (127 * pattern[:, :, None] + 127 * noise).astype(np.uint8)
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    (root / "mine.toml").write_text(
        'base = "soft-rded"\nnetwork = "convnet-2w64"\nrate = 0.01\n'
        "size = 8\ntest_crop = 1\ncrop = false\nshuffle = 0\n"
    )
    return root


def dap(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="dap")


def shorter(scale: float = 0.1) -> list[str]:
    return ["--set", f"evaluation.epochs_scale={scale}"]


@pytest.fixture(scope="module")
def teacher(photos: Path) -> Path:
    words = ["--network", "convnet2w64", "--protocol", "hard-tiny", "--test", f"{photos}:test", "--json"]
    done = dap("teacher", f"{photos}:train", "--out", photos / "T", *words, "--epochs-scale", 0.1)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["network"] == "convnet-2w64"
    assert record["accuracy"]["test"] > 0.9
    assert done.stderr.strip().splitlines()[-1].startswith("next: dap evaluate DIR --test")
    return photos / "T"


def test_a_teacher_that_judges_nothing_it_has_seen(photos: Path, tmp_path: Path) -> None:
    """It learns from what `dap evaluate --val-fraction` does not judge on; the set's own test data stay closed."""
    words = ["--network", "convnet-2w64", "--protocol", "hard-tiny", "--set", "evaluation.val_fraction=0.25", "--json"]
    done = dap("teacher", f"{photos}:train", "--out", tmp_path / "T", *words, "--epochs-scale", 0.1)
    assert done.exit_code == 0, done.output
    (part,) = json.loads(done.stdout)["data"].values()
    assert part["counts"] == [9, 9, 9]
    words = ["--test", "nowhere", "--real", f"{photos}:train", "--val-fraction", 0.25, "--repeats", 1, *shorter(0.01)]
    done = dap("evaluate", photos / "tiny", *words, "--protocol", photos / "mine.toml", "--teacher", tmp_path / "T")
    assert done.exit_code == 0, done.output
    assert "--test nowhere is not looked at: --val-fraction judges on a part of --real" in done.stderr
    assert "which the teacher may have been trained on" in done.stderr
    assert "9 images" in done.stdout


def test_a_set_is_judged_with_a_teachers_labels(photos: Path, teacher: Path) -> None:
    words = [
        "evaluate",
        photos / "tiny",
        "--test",
        f"{photos}:test",
        "--protocol",
        photos / "mine.toml",
        "--repeats",
        1,
    ]
    done = dap(*words, "--teacher", teacher, *shorter(), "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["protocol"], record["teacher"]["name"]) == ("mine", str(teacher))
    assert record["results"][0]["last"]["mean"] > 0.6
    said = f"Labels: those of teacher {teacher}, which gets {record['teacher']['accuracy']:.1%} on these data itself."
    assert said in dap(*words, "--teacher", teacher, *shorter()).stdout
    without = dap(*words)
    assert (without.exit_code, without.stdout) == (1, "")
    assert "needs a teacher" in without.stderr
    assert len(without.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(("lying", "code", "says"), [(1, 1, "the order is wrong"), (4, 0, "warning: teacher ")])
def test_a_better_order_of_classes_is_said_in_one_line(
    photos: Path, teacher: Path, tmp_path: Path, lying: int, code: int, says: str
) -> None:
    """Two classes of test images mixed up, five of six images of each; the third is right, and may outweigh them."""
    for name in NAMES:
        source = {"standing": "checked", "checked": "standing"}.get(name, name)
        (tmp_path / name).mkdir()
        for i in range(6 * (lying if name == "lying" else 1)):
            kept = name if i == 0 else source
            data = (photos / "test" / kept / f"{i % 6}.png").read_bytes()
            (tmp_path / name / f"{i}.png").write_bytes(data)
    words = ["evaluate", photos / "tiny", "--test", tmp_path, "--protocol", photos / "mine.toml", "--repeats", 1]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = dap(*words, "--teacher", teacher, *shorter(0.01))
    assert done.exit_code == code
    assert says in done.stderr
    assert "'standing' is called 'checked'" in done.stderr


def test_a_teacher_that_knows_other_classes_is_refused(photos: Path, teacher: Path) -> None:
    words = ["--test", "digits:test", "--protocol", photos / "mine.toml", "--teacher", teacher]
    done = dap("evaluate", "digits:train", *words)
    assert done.exit_code == 1
    assert "knows 3 classes, the data have 10" in done.stderr


def test_all_protocols_can_be_listed_and_ones_own_with_them(photos: Path) -> None:
    done = dap("evaluate", "--list")
    assert done.exit_code == 0
    for name in ("hard-sgd", "hard-adamw", "hard-small", "hard-tiny", "soft-rded", "soft-fkd", "swin-v2-t"):
        assert name in done.stdout
    assert "50 from IPC 10" in done.stdout
    record = json.loads(dap("evaluate", "--list", "--json", "--protocol", photos / "mine.toml").stdout)
    assert list(record["protocols"])[-1] == "mine"
    assert record["protocols"]["mine"]["size"] == 8
    assert record["protocols"]["soft-rded"]["temperature"] == 20
    assert len(record["protocols"]["soft-fkd"]["digest"]) == 16
    assert "resnet-101" in record["networks"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "give the sets to judge, or --list"),
        (["--test", "digits:test"], 2, "give the sets to judge, or --list"),
        (["digits:train"], 1, "no test data; add --test DATA (or --real DATA --val-fraction 0.1"),
        (["digits:train", "--test", "digits:test", "--protocol", "soft-rde"], 1, "did you mean 'soft-rded'"),
        (["digits:train", "--test", "digits:test", "--network", "resnet"], 1, "needs a depth; use resnet-18"),
        (["digits:train", "--test", "digits:test", "--network", "timm:resnet_18"], 1, "did you mean"),
        (["digits:train", "--test", "digits:test", "--dtype", "fp8"], 1, "use 'fp32' or 'bf16'"),
        (["digits:train", "--test", "digits:test", "--teacher", "T"], 1, "has hard labels; leave --teacher out"),
    ],
)
def test_bad_input_is_one_line(words: list[str], code: int, says: str) -> None:
    done = dap("evaluate", *words)
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_a_teacher_is_one_network_with_hard_labels(tmp_path: Path) -> None:
    for more, says in (
        (["--protocol", "soft-rded"], "a teacher learns from hard labels"),
        (["--set", 'evaluation.networks=["resnet-18", "convnet-3"]'], "a teacher is one network"),
        (["--set", "train.steps=3"], "dap teacher reads the tables data, evaluation, backbone"),
    ):
        done = dap("teacher", "digits:train", "--out", tmp_path / "T", *more)
        assert done.exit_code == 1
        assert says in done.stderr
    assert not (tmp_path / "T").exists()
    assert "torch" in sys.modules
