"""The matrix: interrupted anywhere it goes on, nothing is measured twice, and no number is taken for another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_sets import NAMES, distilled, folder

from dap.config import EvaluationConfig
from dap.data import open_dataset
from dap.errors import StoreError
from dap.evaluation import evaluate, get_protocol, matrix
from dap.evaluation.cells import FORMAT, default_cache, open_cache
from dap.evaluation.matrix import Worker, without_augmentation

QUICK = EvaluationConfig(protocol="hard-tiny", repeats=2, epochs_scale=0.02)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every training that really runs."""
    seeds: list[int] = []
    fit = matrix.fit

    def counted(*args: Any, **options: Any) -> Any:
        seeds.append(options["seed"])
        return fit(*args, **options)

    monkeypatch.setattr(matrix, "fit", counted)
    return seeds


@pytest.fixture
def run(held_out: Path) -> Callable[..., dict[str, Any]]:
    def evaluated(*sets: Any, **options: Any) -> dict[str, Any]:
        config = replace(QUICK, **options.pop("config", {}))
        return evaluate(sets, options.pop("test", held_out), config=config, device="cpu", **options)

    return evaluated


def numbers(result: dict[str, Any]) -> list[Any]:
    return [(row["set"], row["last"], row["best"], row["confusion"]) for row in result["results"]]


def test_the_same_call_again_trains_nothing_and_says_the_same(
    tmp_path: Path, real: Path, run: Any, trained: list[int]
) -> None:
    sets = distilled(tmp_path / "a", real), folder(tmp_path / "plain", dict.fromkeys(NAMES, 2))
    options = {"baselines": ["random", "kmeans", "full"], "real": real}
    first = run(*sets, **options)
    assert (len(trained), first["measured"], first["kept"]) == (10, 10, 0)
    again = run(*sets, **options, progress=lambda *_: pytest.fail("trained"))
    assert (len(trained), again["measured"], again["kept"]) == (10, 0, 10)
    assert numbers(again) == numbers(first)
    assert [row["kept"] for row in again["results"]] == [2] * 5
    assert again["files"] == first["files"]


def test_interrupted_in_the_middle_it_goes_on_where_it_stopped(
    tmp_path: Path, real: Path, run: Any, trained: list[int]
) -> None:
    whole = run(distilled(tmp_path / "whole", real), baselines=["random"], cache=tmp_path / "c1")
    cut, calls = distilled(tmp_path / "cut", real), []

    def stop(done: int, total: int, what: str) -> None:
        calls.append((done, total))
        if done == 9:  # 6 steps a training: in the middle of the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cut, baselines=["random"], cache=tmp_path / "c2", progress=stop)
    assert calls[-1] == (9, 24)
    assert len(list((cut / "evaluation" / "cells").glob("*.json"))) == 1
    trained.clear()
    calls.clear()
    result = run(cut, baselines=["random"], cache=tmp_path / "c2", progress=lambda *call: calls.append(call[:2]))
    assert trained == [1, 0, 1]
    assert calls == [(step, 18) for step in range(1, 19)]  # what is left, and no more
    assert (result["measured"], result["kept"]) == (3, 1)
    assert [row["last"] for row in result["results"]] == [row["last"] for row in whole["results"]]


def test_more_repeats_networks_or_sets_measure_only_what_is_new(
    tmp_path: Path, real: Path, run: Any, trained: list[int]
) -> None:
    one, other = (distilled(tmp_path / f"d{seed}", real, seed=seed) for seed in (0, 1))
    run(one, baselines=["random", "kmeans"])
    trained.clear()
    run(one, other, baselines=["random", "kmeans"])
    assert len(trained) == 2  # the other set's; the baselines are the same
    run(one, config={"repeats": 3})
    assert trained[2:] == [2]
    run(one, config={"networks": ("convnet-2w64", "convnet-3")})
    assert len(trained) == 5


def test_whatever_changes_a_number_is_measured_anew(
    tmp_path: Path, real: Path, held_out: Path, run: Any, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = distilled(tmp_path / "d", real)
    run(out)
    less = folder(tmp_path / "t", {"apple": 5, "pear": 6, "plum": 6}, seed=1)
    for changed in (
        {"config": {"epochs_scale": 0.03}},
        {"config": {"flip": True}},
        {"config": {"evaluations": 1}},
        {"config": {"protocol": "hard-small", "epochs_scale": 0.001}},
        {"config": {"networks": ("convnet-3",)}},
        {"test": less},
    ):
        trained.clear()
        run(out, **changed)
        assert len(trained) == 2, changed
    trained.clear()
    run(out)
    assert trained == []
    monkeypatch.setattr("dap.evaluation.cells.FORMAT", FORMAT + 1)
    run(out)
    assert len(trained) == 2
    monkeypatch.setattr("dap.evaluation.cells.versions", lambda: {"dap": "0", "torch": "9"})
    run(out)
    assert len(trained) == 4


def test_changed_images_are_another_set_under_the_same_name(tmp_path: Path, run: Any, trained: list[int]) -> None:
    plain = folder(tmp_path / "a", dict.fromkeys(NAMES, 2))
    run(plain)
    (plain / "plum" / "001.png").write_bytes((plain / "plum" / "000.png").read_bytes())
    run(plain)
    assert len(trained) == 4


@pytest.mark.parametrize("damage", ["cut", "edited", "another's", "older"])
def test_a_cell_that_cannot_be_trusted_is_measured_again(
    damage: str, tmp_path: Path, real: Path, run: Any, trained: list[int]
) -> None:
    one, other = (distilled(tmp_path / f"d{seed}", real, seed=seed) for seed in (0, 1))
    first = run(one, config={"repeats": 1})
    run(other, config={"repeats": 1})
    (cell,), (strange,) = (list((d / "evaluation" / "cells").glob("*.json")) for d in (one, other))
    text = cell.read_text()
    if damage == "cut":
        cell.write_text(text[: len(text) // 2])
    elif damage == "edited":
        cell.write_text(text.replace('"last": ', '"last": 1'))
    elif damage == "another's":
        cell.write_bytes(strange.read_bytes())
    else:
        from dap.seal import sealed

        record = json.loads(text)
        record["fit"]["retired"] = record["fit"].pop("best")
        cell.write_bytes(sealed(record))
    trained.clear()
    again = run(one, config={"repeats": 1})
    assert trained == [0]
    assert numbers(again) == numbers(first)
    trained.clear()
    run(one, config={"repeats": 1})
    assert trained == []


def test_baselines_of_equal_sets_are_shared_whatever_call_asks(
    tmp_path: Path, real: Path, run: Any, trained: list[int]
) -> None:
    """Also from a copy of the real data, and without reading what chance has not drawn."""
    import shutil

    copy = shutil.copytree(real, tmp_path / "copy")
    plain = folder(tmp_path / "a", dict.fromkeys(NAMES, 2))
    run(plain, real=real, baselines=["random", "herding", "kcenter", "full"])
    trained.clear()
    run(plain, real=copy, baselines=["random", "herding", "kcenter", "full"])
    assert trained == []


def test_the_number_of_looks_changes_best_and_never_last(tmp_path: Path, real: Path, run: Any) -> None:
    out = distilled(tmp_path / "d", real)
    rows = [run(out, config={"evaluations": n, "epochs_scale": 0.1})["results"][0] for n in (None, 3, 1)]
    assert [row["evaluations"] for row in rows] == [10, 3, 1]
    assert rows[0]["last"] == rows[1]["last"] == rows[2]["last"]
    assert rows[0]["confusion"] == rows[2]["confusion"]
    assert rows[2]["best"] == rows[2]["last"]
    assert rows[0]["best"]["mean"] >= rows[1]["best"]["mean"] >= rows[2]["best"]["mean"]


def test_a_run_kept_from_another_machine_says_so(tmp_path: Path, real: Path, run: Any, monkeypatch: Any) -> None:
    out = distilled(tmp_path / "d", real)
    assert run(out)["results"][0]["notes"] == []
    monkeypatch.setattr("dap.evaluation.record.machine", lambda: {"processor": "abacus", "gpu": None})
    (note,) = run(out)["results"][0]["notes"]
    assert note.startswith("2 of 2 runs were measured earlier on another machine (")


def test_without_augmentation_nothing_touches_the_training_images() -> None:
    for name in ("hard-tiny", "hard-small", "hard-sgd"):
        plain = without_augmentation(get_protocol(name))
        assert (plain.crop, plain.flip, plain.jitter, plain.lighting) == (None, False, 0, 0)
        assert (plain.shift, plain.cutmix) == (0, False)
        assert (
            replace(get_protocol(name), crop=None, flip=False, jitter=0.0, lighting=0.0, shift=0, cutmix=False) == plain
        )


def test_the_cache_is_the_one_named_else_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAP_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("DAP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "dap" / "evaluation"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "dap" / "evaluation"


def test_a_cache_that_cannot_be_written_is_an_error_when_asked_for_and_none_otherwise(
    tmp_path: Path, real: Path, run: Any, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*name another with --cache"):
        open_cache(tmp_path / "file" / "cells")
    monkeypatch.setenv("DAP_CACHE", str(tmp_path / "file" / "cells"))
    plain = folder(tmp_path / "a", dict.fromkeys(NAMES, 2))
    assert run(plain)["cache"] is None
    assert (run(plain)["cache"], len(trained)) == (None, 4)


def test_a_set_judged_on_what_it_was_distilled_from_is_told_so(tmp_path: Path, real: Path, run: Any) -> None:
    out = distilled(tmp_path / "d", real)
    own, random = run(out, test=str(real), baselines=["random"])["results"]
    assert own["notes"] == ["judged on the real images that it was distilled from, not on test data"]
    assert random["notes"] == []
    assert run(out)["results"][0]["notes"] == []


def test_validation_draws_baselines_from_the_rest_and_never_opens_the_test_data(
    tmp_path: Path, real: Path, run: Any
) -> None:
    out = distilled(tmp_path / "d", real)
    result = run(
        out, test="nowhere", real=real, baselines=["random", "full"], config={"val_fraction": 0.25, "repeats": 3}
    )
    own, random, full = result["results"]
    assert (result["test"]["part"], result["test"]["counts"]) == ("validation", [3, 3, 3])
    assert result["test"]["name"] == f"{real}, validation part"
    assert full["counts"] == [9, 9, 9]
    assert full["digest"] != open_dataset(real).digest
    assert own["notes"] == ["judged on a part of the training data, which the set may have been distilled from"]
    assert random["notes"] == []
    assert result["settings"]["evaluation"]["val_fraction"] == 0.25


def test_several_processes_share_a_matrix_and_each_ends_with_the_whole(
    tmp_path: Path, real: Path, run: Any, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = distilled(tmp_path / "d", real), {"repeats": 4}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")

    def stop(done: int, total: int, what: str) -> None:
        if done == 13:  # in the middle of its third training, as if it had been killed
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, config=config, progress=stop)
    assert trained == [2, 3, 0]
    trained.clear()
    monkeypatch.setenv("RANK", "0")
    shared = run(out, config=config)
    assert trained == [0, 1]
    monkeypatch.delenv("RANK")
    alone = run(distilled(tmp_path / "again", real), config=config)
    assert [row["last"] for row in shared["results"]] == [row["last"] for row in alone["results"]]


def test_workers_begin_at_different_places_and_on_different_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(0, repeat) for repeat in range(7)]
    orders = [Worker(rank, 3).order(places) for rank in range(3)]
    assert [order[0] for order in orders] == [(0, 0), (0, 2), (0, 4)]
    assert all(sorted(order) == places for order in orders)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [Worker(1, 4).device(asked) for asked in ("auto", "cpu", "cuda:0")] == ["cuda:1", "cpu", "cuda:0"]
    assert Worker(0, 1).device("auto") == "auto"
    for rank, world in (("", "2"), ("2", "2"), ("x", "2")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", world)
        assert Worker.here() == Worker(0, 1)
