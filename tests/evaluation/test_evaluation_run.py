"""`evaluate`: classes by name, both baselines, a complete record, both spreads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_sets import NAMES, QUICK, distilled, folder, quick

from dap.baselines import random_subset
from dap.config import EvaluationConfig
from dap.data import open_dataset
from dap.evaluation import evaluate, get_protocol
from dap.evaluation.candidate import Candidate
from dap.evaluation.sets import open_candidate
from dap.evaluation.table import as_markdown
from dap.store import Store


@pytest.fixture(scope="module")
def full_result(
    tmp_path_factory: pytest.TempPathFactory, real: Path, held_out: Path
) -> tuple[dict[str, Any], Path, list[tuple[int, int, str]]]:
    out, calls = distilled(tmp_path_factory.mktemp("d") / "d", real), []
    result = evaluate(
        [out],
        held_out,
        config=QUICK,
        baselines=["random", "full"],
        device="cpu",
        progress=lambda *call: calls.append(call),
    )
    return result, out, calls


def test_the_record_holds_all_that_the_rules_list(full_result: Any, held_out: Path) -> None:
    result = json.loads(json.dumps(full_result[0], allow_nan=False))
    assert (result["protocol"], result["scaled"], result["classes"]) == ("hard-tiny", True, list(NAMES))
    assert [row["set"] for row in result["results"]] == [str(full_result[1]), "random", "full"]
    row = result["results"][0]
    assert (row["network"], row["parameters"], row["input_size"], row["image_size"]) == ("convnet-2w64", 39747, 8, 8)
    assert (row["ipc"], row["images"], row["counts"], row["mode"]) == (2, 6, [2, 2, 2], "L")
    assert (row["repeats"], row["seeds"], row["steps"], row["epochs"], row["batch"]) == (2, [0, 1], 30, None, 6)
    assert row["optimiser"] == {
        "name": "sgd", "rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine",
    }  # fmt: skip
    for kind in ("last", "best"):
        assert row[kind]["mean"] == pytest.approx(sum(row[kind]["values"]) / 2)
        assert 0 <= row[kind]["mean"] <= 1
    assert row["best"]["mean"] >= row["last"]["mean"]
    assert np.sum(row["confusion"], 1).tolist() == [10, 12, 14]
    assert np.trace(row["confusion"]) / 36 == pytest.approx(row["last"]["mean"])
    assert row["evaluations"] == 10
    assert len(row["per_class"]) == 3
    assert result["test"] == {
        "name": str(held_out), "part": "test", "images": 18, "counts": [5, 6, 7], "size": 8, "stored_size": 8,
        "digest": open_dataset(held_out).digest,
    }  # fmt: skip
    assert {"dap", "torch", "python"} <= set(result["versions"])
    assert result["machine"]["device"] == "cpu"
    assert result["settings"]["protocol"]["rate"] == 0.05


def test_baselines_are_drawn_from_the_recorded_source(full_result: Any, real: Path) -> None:
    _, random, full = full_result[0]["results"]
    source = open_dataset(real)
    assert (random["ipc"], random["images"], random["steps"], random["source"]) == (2, 6, 30, str(real))
    assert (full["ipc"], full["images"], full["steps"], full["counts"]) == (None, 36, 150, [12, 12, 12])
    assert random["digests"] == [random_subset(source, 2, repeat).digest for repeat in (0, 1)]
    assert random["digests"][0] != random["digests"][1]  # a new draw each repeat
    assert random["real_counts"] == full["real_counts"] == [12, 12, 12]
    assert full_result[0]["results"][0]["real_counts"] == [30, 31, 32]
    assert full["digests"] == [source.digest] * 2
    assert full["digest"] == source.digest


def test_the_result_lies_in_the_distilled_dataset(full_result: Any) -> None:
    result, out, _ = full_result
    (path,) = result["files"]
    assert Path(path).parent == out / "evaluation"
    assert Path(path).name.startswith("hard-tiny-")
    written = json.loads(Path(path).read_text())
    assert written["results"] == json.loads(json.dumps(result["results"]))
    assert [p.name for p in (out / "evaluation").glob("*.json")] == [Path(path).name]
    assert Store.open(out).verify() == []


def test_progress_counts_the_steps_of_all_runs(full_result: Any) -> None:
    calls = full_result[2]
    assert [done for done, _, _ in calls] == list(range(1, 421))  # 2 repeats of 30, 30 and 150
    assert {total for _, total, _ in calls} == {420}
    assert calls[-1][2] == "full, convnet-2w64, repeat 2 of 2"


def test_classes_are_matched_by_name_whatever_their_order(tmp_path: Path, held_out: Path) -> None:
    source = open_dataset(folder(tmp_path / "a", dict.fromkeys(NAMES, 4)))
    shuffled = source.restrict(("plum", "apple", "pear"))
    straight, turned = (quick([s], held_out)["results"][0] for s in (source, shuffled))
    assert straight["last"] == turned["last"]
    assert straight["confusion"] == turned["confusion"]
    assert straight["last"]["mean"] > 0.6


def test_renaming_classes_on_both_sides_changes_nothing(tmp_path: Path, held_out: Path) -> None:
    renamed = [f"{i}_{name}" for i, name in enumerate(NAMES)]
    plain = quick([folder(tmp_path / "a", dict.fromkeys(NAMES, 4))], held_out)
    other = quick(
        [folder(tmp_path / "b", dict.fromkeys(renamed, 4))],
        folder(tmp_path / "t", dict(zip(renamed, (5, 6, 7), strict=True)), seed=1),
    )
    assert plain["results"][0]["confusion"] == other["results"][0]["confusion"]


def test_plain_folders_get_no_file_and_no_new_class(tmp_path: Path, held_out: Path) -> None:
    given = folder(tmp_path / "a", dict.fromkeys(NAMES, 2))
    assert quick([given], held_out)["files"] == []
    assert open_dataset(given).class_names == NAMES


def test_test_images_come_to_the_sets_size_and_colour(tmp_path: Path) -> None:
    large = folder(tmp_path / "t", dict.fromkeys(NAMES, 3), size=32, colour=True)
    colour = folder(tmp_path / "c", dict.fromkeys(NAMES, 2), size=16, colour=True)
    grey = folder(tmp_path / "g", dict.fromkeys(NAMES, 2))
    result = quick([colour, grey], large, real=large, baselines=["random"])
    assert [(row["image_size"], row["mode"]) for row in result["results"]] == [(16, "RGB"), (8, "L")] * 2
    assert result["test"]["size"] == [8, 16]


def test_unequal_classes_count_as_the_smallest_and_say_so(tmp_path: Path, real: Path, held_out: Path) -> None:
    uneven = folder(tmp_path / "a", {"apple": 2, "pear": 3, "plum": 4})
    own, random = quick([uneven], held_out, real=real, baselines=["random"])["results"]
    assert (own["ipc"], own["images"], random["images"]) == (2, 9, 6)
    assert own["notes"] == ["classes have 2 to 4 images; 2 is taken as images per class"]


def test_enlarged_images_are_recorded(tmp_path: Path, held_out: Path) -> None:
    config = EvaluationConfig(protocol="hard-tiny", networks=("resnetap-10",), repeats=1, epochs_scale=0.003)
    (row,) = quick([folder(tmp_path / "a", dict.fromkeys(NAMES, 1))], held_out, config=config)["results"]
    assert (row["image_size"], row["input_size"], row["last"]["sd"]) == (8, 16, None)
    assert row["notes"] == ["images of 8 px are enlarged to 16 px for this network (bilinear)"]


def test_sets_of_several_generation_seeds_show_both_spreads(tmp_path: Path, real: Path, held_out: Path) -> None:
    sets: list[Any] = [distilled(tmp_path / f"d{seed}", real, seed=seed) for seed in (0, 1)]
    sets.append(distilled(tmp_path / "ipc3", real, ipc=3))
    result = quick(sets, held_out, config=QUICK, baselines=["random"])
    (spread,) = result["across_sets"]
    means = [row["last"]["mean"] for row in result["results"][:2]]
    assert spread["sets"] == [str(s) for s in sets[:2]]
    assert spread["mean"] == pytest.approx(sum(means) / 2)
    assert spread["sd_sets"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    assert spread["sd_repeats"] is not None
    assert [row["ipc"] for row in result["results"]] == [2, 2, 3, 2, 3]  # one random baseline an IPC
    written = [json.loads(Path(path).read_text())["results"] for path in result["files"]]
    assert [[row["ipc"] for row in rows] for rows in written] == [[2, 2], [2, 2], [3, 3]]


def test_one_method_is_told_from_another_and_not_by_size_seed_or_device(
    tmp_path: Path, real: Path, held_out: Path
) -> None:
    test, protocol = open_dataset(held_out), get_protocol("hard-tiny")

    def made(name: str, **how: Any) -> Candidate:
        return open_candidate(distilled(tmp_path / name, real, **how), test, protocol)

    one, more, other = made("a"), made("b", ipc=3), made("c", seed=1, device="cuda")
    assert one.recipe == more.recipe == other.recipe
    assert (one.family == other.family, one.family == more.family) == (True, False)
    unlike = [made("d", strength=2.0), made("e", guidance="none"), made("f", guidance="mine.rules:Mine")]
    assert len({one.recipe, *(each.recipe for each in unlike)}) == 4
    assert [each.method for each in (one, *unlike)] == ["dap", "dap", "unguided", "mine.rules:Mine"]
    plain = open_candidate(folder(tmp_path / "p", dict.fromkeys(NAMES, 1)), test, protocol)
    assert (plain.method, plain.recipe, plain.family) == (None, None, None)
    table = as_markdown(quick([tmp_path / "a", tmp_path / "b", tmp_path / "e"], held_out))
    assert "| network | px | IPC | dap | unguided |" in table
    assert len([line for line in table.splitlines() if line.startswith("| convnet-2w64 | 8 |")]) == 2


def test_images_that_a_protocol_enlarges_say_so(tmp_path: Path, real: Path) -> None:
    (tmp_path / "p.toml").write_text('base = "hard-tiny"\nsize = 12\n')
    config = EvaluationConfig(protocol=str(tmp_path / "p.toml"), repeats=1, epochs_scale=0.003)
    small, large = (folder(tmp_path / str(s), dict.fromkeys(NAMES, 2), size=s) for s in (8, 24))
    result = quick([small, large], large, config=config, real=real, baselines=["random"])
    told = ["images of 8 px are enlarged to 12 px before training (bicubic)"]
    assert [row["notes"] for row in result["results"]] == [told, [], told]
    assert [row["stored_size"] for row in result["results"]] == [8, 24, 8]
    assert (result["test"]["size"], result["test"]["stored_size"]) == (12, 24)


def test_real_counts_follow_the_test_datas_order(tmp_path: Path, real: Path, held_out: Path) -> None:
    names = ("plum", "apple", "pear")
    row, *_ = quick([distilled(tmp_path / "d", real, names=names)], held_out)["results"]
    assert (row["counts"], row["real_counts"]) == ([2, 2, 2], [31, 32, 30])


def test_a_set_that_is_named_twice_is_one_set(tmp_path: Path, real: Path, held_out: Path) -> None:
    out = distilled(tmp_path / "d", real)
    (tmp_path / "link").symlink_to(out)
    result = quick([out, str(out), tmp_path / "link"], held_out)
    assert len(result["results"]) == len(result["files"]) == 1
