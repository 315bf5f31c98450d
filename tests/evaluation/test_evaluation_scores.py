"""Scores: ddof 1, no NaN, pairs by seed."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dap.evaluation import paired_difference, score
from dap.evaluation.scores import (
    augmentation_robust_score,
    class_accuracies,
    label_robust_score,
    pooled_sd,
)


def test_spread_has_ddof_one() -> None:
    got = score([0.5, 0.7])
    assert (got.mean, got.sd) == (pytest.approx(0.6), pytest.approx(0.1414, abs=1e-4))


def test_one_value_has_no_spread_and_is_valid_json() -> None:
    assert json.dumps(score([0.25]).as_record(), allow_nan=False) == '{"mean": 0.25, "sd": null, "values": [0.25]}'


def test_a_paired_difference_cancels_what_the_seed_does_to_both() -> None:
    got = paired_difference([0.5, 0.9, 0.7], [0.4, 0.8, 0.6])
    assert got.mean == pytest.approx(0.1)
    assert got.sd == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="argument"):
        paired_difference([0.5], [0.4, 0.6])


def test_the_pooled_spread_is_the_root_of_the_mean_variance() -> None:
    assert pooled_sd([score([0.0, 0.2]), score([0.5, 0.5])]) == pytest.approx(0.1)
    assert pooled_sd([score([0.1]), score([0.0, 0.2])]) is None


def test_class_accuracies_are_shares_of_the_rows() -> None:
    assert class_accuracies(torch.tensor([[3, 1], [0, 2]])) == [0.75, 1.0]
    assert class_accuracies(torch.tensor([[1, 2], [3, 7]])) == [1 / 3, 0.7]  # as exact as the other accuracies


def test_the_scores_of_dd_ranking_run_from_nothing_to_everything() -> None:
    assert label_robust_score(1.0, 0.0, 0.0, 1.0) == pytest.approx(1)  # a = 1
    assert label_robust_score(0.0, 1.0, 1.0, 0.0) == pytest.approx(0, abs=1e-12)  # a = -1
    even = (1 - math.exp(-1)) / (math.e - math.exp(-1))
    assert label_robust_score(0.6, 0.6, 0.8, 0.8) == pytest.approx(even)  # a = 0
    assert augmentation_robust_score(0.6, 0.6, 0.4, 0.4) == pytest.approx(even)


def test_the_scores_follow_their_formulas_on_fractions() -> None:
    a = 0.5 * (0.7 - 0.6) - 0.5 * (0.95 - 0.65)
    expected = (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))
    assert label_robust_score(0.7, 0.6, 0.95, 0.65) == pytest.approx(expected)
    b = 0.25 * (0.7 - 0.6) + 0.75 * (0.5 - 0.45)
    expected = (math.exp(b) - math.exp(-1)) / (math.e - math.exp(-1))
    assert augmentation_robust_score(0.7, 0.6, 0.5, 0.45, weight=0.25) == pytest.approx(expected)
