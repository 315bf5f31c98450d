"""`evaluate` on what it must refuse, and on what stops it: one clear line, and no file half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_sets import NAMES, distilled, folder, picture, quick
from PIL import Image

from dap.config import EvaluationConfig
from dap.data import open_dataset
from dap.errors import ConfigError, DataError, StoreError
from dap.evaluation import evaluate


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"apple": 1, "pear": 1}, "only in the test set: .*plum"),
        ({"apple": 1, "pear": 1, "plum": 1, "x_plum": 1}, "only in the distilled set: .*x_plum"),
    ],
)
def test_other_classes_than_the_held_out_are_refused(
    tmp_path: Path, held_out: Path, counts: dict[str, int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        quick([folder(tmp_path / "a", counts)], held_out)


def test_images_of_mixed_size_are_refused(tmp_path: Path, held_out: Path) -> None:
    within = folder(tmp_path / "a", dict.fromkeys(NAMES, 2))
    Image.fromarray(picture(1, 0, size=16)).save(within / "pear" / "001.png")
    with pytest.raises(DataError, match=r"differ in size.*8 x 8.*16 x 16"):
        quick([within], held_out)
    across = folder(tmp_path / "b", {"apple": 1, "pear": 1})
    folder(across, {"plum": 1}, size=16)
    with pytest.raises(DataError, match="those of 'apple' are 8 x 8, of 'plum' 16 x 16"):
        quick([across], held_out)


def test_images_that_are_not_square_are_refused(tmp_path: Path, held_out: Path) -> None:
    oblong = tmp_path / "a"
    for name in NAMES:
        (oblong / name).mkdir(parents=True)
        Image.new("L", (8, 6)).save(oblong / name / "0.png")
    with pytest.raises(DataError, match="are 8 x 6; save them square"):
        quick([oblong], held_out)


def test_a_class_without_images_is_refused(real: Path, held_out: Path) -> None:
    source = open_dataset(real)
    empty = type(source)("mine", source.class_names, (*source.keys[:2], ()), source.read_bytes)
    with pytest.raises(DataError, match="class 'plum' of 'mine' has no images"):
        quick([empty], held_out)


def test_unknown_names_are_found_before_anything_is_read() -> None:
    def asked(**settings: Any) -> Callable[[], Any]:
        baselines = settings.pop("baselines", ())
        return lambda: evaluate(["nowhere"], "nowhere", config=EvaluationConfig(**settings), baselines=baselines)

    for work, said in (
        (asked(protocol="hard-tinny"), "unknown protocol 'hard-tinny'; did you mean 'hard-tiny'"),
        (asked(networks=("convnet",)), "needs a depth"),
        (asked(baselines=["fulll"]), "unknown baseline 'fulll'; did you mean 'full'"),
        (lambda: evaluate([], "nowhere"), "no set to evaluate"),
    ):
        with pytest.raises((ConfigError, DataError), match=said):
            work()


def test_baselines_need_real_data_with_enough_images(tmp_path: Path, real: Path, held_out: Path) -> None:
    plain = folder(tmp_path / "a", dict.fromkeys(NAMES, 13))
    with pytest.raises(DataError, match="add --real DATA"):
        quick([plain], held_out, baselines=["random"])
    with pytest.raises(DataError, match="has 12 images, 13 were asked for"):
        quick([plain], held_out, real=real, baselines=["random"])


def test_an_unfinished_or_damaged_dataset_is_refused(tmp_path: Path, real: Path, held_out: Path) -> None:
    out = distilled(tmp_path / "d", real)
    image = next((out / "data").rglob("*.png"))
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"unfinished or damaged.*dap verify"):
        quick([out], held_out)


def test_an_interrupted_run_leaves_no_file(
    tmp_path: Path, real: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = distilled(tmp_path / "d", real)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick([out], held_out, progress=stop)
    assert list((out / "evaluation").rglob("*.json")) == []

    def full_disk(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(StoreError, match="the disk is full"):
        quick([out], held_out)
    assert [p for p in (out / "evaluation").rglob("*") if p.is_file()] == []


def test_a_dataset_that_cannot_be_written_to_is_found_before_training(
    tmp_path: Path, real: Path, held_out: Path
) -> None:
    out = distilled(tmp_path / "d", real)
    (out / "evaluation").write_text("in the way")

    def never(done: int, total: int, what: str) -> None:
        raise AssertionError("trained")

    with pytest.raises(StoreError, match="cannot write"):
        quick([out], held_out, progress=never)
