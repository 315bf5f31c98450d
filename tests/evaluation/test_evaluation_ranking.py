"""LRS and ARS from rows: only from what was measured, and saying what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_sets import distilled

from dap.config import EvaluationConfig
from dap.evaluation import evaluate
from dap.evaluation.scores import augmentation_robust_score, label_robust_score

QUICK = EvaluationConfig(protocol="hard-tiny", repeats=2, epochs_scale=0.05)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, real: Path, held_out: Path) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("ranked")
    sets = [distilled(root / "two", real), distilled(root / "three", real, ipc=3)]
    return evaluate(sets, held_out, config=QUICK, scores=True, device="cpu")


def test_scores_are_the_formulas_repeat_by_repeat(ranked: dict[str, Any]) -> None:
    two, three, random_two, _, full = ranked["results"]
    assert [row["set"] for row in ranked["results"][2:]] == ["random", "random", "full"]
    assert [row["ipc"] for row in ranked["scores"]] == [2, 3]
    plain = {(row["set"], row["ipc"]): row for row in ranked["without_augmentation"]}
    assert len(plain) == 4, "full is not needed without augmentation"
    one = ranked["scores"][0]
    assert (one["set"], one["missing"], one["remedy"]) == (two["set"], [], None)
    values = [row["last"]["values"] for row in (two, random_two, full)]
    twins = [plain[two["set"], 2]["last"]["values"], plain["random", 2]["last"]["values"]]
    for repeat in (0, 1):
        syn, rand, whole = (v[repeat] for v in values)
        assert one["lrs"]["values"][repeat] == pytest.approx(label_robust_score(syn, rand, whole, syn))
        ars = augmentation_robust_score(syn, rand, twins[0][repeat], twins[1][repeat])
        assert one["ars"]["values"][repeat] == pytest.approx(ars)
    assert 0 <= one["lrs"]["mean"] <= 1
    assert three["ipc"] == ranked["scores"][1]["ipc"]


def test_runs_without_augmentation_are_trainings_of_their_own(ranked: dict[str, Any]) -> None:
    cells = [cell for key in ("results", "without_augmentation") for row in ranked[key] for cell in row["cells"]]
    assert len(cells) == len(set(cells)) == 2 * (5 + 4)


@pytest.mark.parametrize(
    ("baselines", "missing"),
    [
        ([], ["baseline random", "baseline full"]),
        (["random"], ["baseline full", "runs without augmentation"]),
        (["random", "full"], ["runs without augmentation"]),
        (["full"], ["baseline random"]),
    ],
)
def test_what_is_missing_is_said_and_not_guessed(
    tmp_path: Path, real: Path, held_out: Path, baselines: list[str], missing: list[str]
) -> None:
    config = replace(QUICK, repeats=1, epochs_scale=0.01)
    result = evaluate([distilled(tmp_path / "d", real)], held_out, config=config, baselines=baselines, device="cpu")
    (row,) = result["scores"]
    assert row["missing"] == missing
    assert (row["lrs"] is None) == ("full" not in baselines or "random" not in baselines)
    assert row["ars"] is None
    assert "--scores" in row["remedy"]
