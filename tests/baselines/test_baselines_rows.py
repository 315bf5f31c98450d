"""Rows that stand for all: the law of each selection, against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from dap.baselines import herding_rows, kcenter_rows, kmeans_rows
from dap.errors import DataError


def cloud(count: int = 40, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def groups(centres: int = 4, each: int = 6, spread: float = 0.01) -> Tensor:
    """Tight clusters far from each other; row i belongs to cluster i % centres."""
    middle = 10 * torch.eye(centres).repeat(each, 1)
    return middle + spread * cloud(centres * each, centres)


ALL = {"herding": herding_rows, "kmeans": lambda f, ipc: kmeans_rows(f, ipc, 0), "kcenter": kcenter_rows}


@pytest.mark.parametrize("rows", ALL.values(), ids=ALL)
@pytest.mark.parametrize("ipc", [1, 7, 40])
def test_as_many_different_rows_as_asked_the_same_each_time(rows, ipc: int) -> None:  # type: ignore[no-untyped-def]
    chosen = rows(cloud(), ipc).tolist()
    assert len(set(chosen)) == ipc
    assert set(chosen) <= set(range(40))
    assert rows(cloud(), ipc).tolist() == chosen


@pytest.mark.parametrize("rows", ALL.values(), ids=ALL)
def test_equal_images_are_chosen_once_each_and_more_than_there_are_is_an_error(rows) -> None:  # type: ignore[no-untyped-def]
    assert sorted(rows(torch.ones(5, 3), 4).tolist())[:1] >= [0]
    assert len(set(rows(torch.ones(5, 3), 4).tolist())) == 4
    for ipc in (0, 41):
        with pytest.raises(DataError, match=f"{ipc} of 40 rows were asked for; ask for 1 to 40"):
            rows(cloud(), ipc)


@pytest.mark.parametrize("rows", ALL.values(), ids=ALL)
def test_one_row_a_cluster_when_clusters_are_far_apart(rows) -> None:  # type: ignore[no-untyped-def]
    chosen = rows(groups(), 4)
    assert sorted((chosen % 4).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_each_row_of_herding_is_the_one_that_brings_the_mean_nearest(far: float) -> None:
    features = cloud() + far  # a far origin must not cost digits
    chosen = herding_rows(features, 9).tolist()
    exact = features.double()
    for k in range(9):
        before = exact[chosen[:k]].sum(0)
        gaps = [
            (exact.mean(0) - (before + row) / (k + 1)).norm() if i not in chosen[:k] else torch.tensor(torch.inf)
            for i, row in enumerate(exact)
        ]
        assert int(torch.stack([g.double() for g in gaps]).argmin()) == chosen[k]


def test_herding_approaches_the_mean_faster_than_chance() -> None:
    features = cloud(200)
    ours = (features[herding_rows(features, 10)].mean(0) - features.mean(0)).norm()
    draws = [torch.randperm(200, generator=torch.Generator().manual_seed(s))[:10] for s in range(200)]
    theirs = torch.stack([(features[rows].mean(0) - features.mean(0)).norm() for rows in draws])
    assert ours < theirs.min()


def test_kmeans_rows_are_nearest_to_the_centres_of_their_clusters() -> None:
    features = groups(spread=0.3)
    for row in kmeans_rows(features, 4, 0).tolist():
        members = torch.arange(len(features))[torch.arange(len(features)) % 4 == row % 4]
        gaps = (features[members] - features[members].mean(0)).norm(dim=1)
        assert row == int(members[gaps.argmin()])


def test_kmeans_is_drawn_by_its_seed() -> None:
    draws = {tuple(kmeans_rows(cloud(), 8, seed).tolist()) for seed in range(6)}
    assert len(draws) > 1


def test_kcenter_leaves_at_most_twice_the_best_radius() -> None:
    features = cloud(12, 2)
    gaps = torch.cdist(features, features)
    best = min(gaps[:, list(rows)].min(1).values.max() for rows in combinations(range(12), 3))
    assert gaps[:, kcenter_rows(features, 3)].min(1).values.max() <= 2 * best
    chosen = kcenter_rows(features, 6).tolist()
    assert chosen[0] == int((features - features.mean(0)).norm(dim=1).argmin())
    for k in range(1, 6):
        assert chosen[k] == int(gaps[:, chosen[:k]].min(1).values.argmax())
