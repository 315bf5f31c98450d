"""Balanced noise: Gaussian rows that cancel in pairs of neighbours, and pairs that are orthogonal to each other."""

import pytest
import torch

from dap import noise
from dap.guidance.clusters import cluster_weights
from dap.noise import balanced, balanced_parts, neighbours, orthogonal


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_noise_is_balanced_and_of_unit_variance(count: int) -> None:
    x_0 = images(count)
    rows, partner = balanced(x_0, 5).flatten(1), neighbours(x_0.flatten(1))
    alone = partner == torch.arange(count)
    assert int(alone.sum()) == count % 2
    assert torch.equal(partner[partner], torch.arange(count))
    assert torch.equal(rows[~alone], -rows[partner[~alone]])
    first = rows[partner >= torch.arange(count)]
    gram = first @ first.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=1e-4, atol=1e-3)
    assert torch.equal(rows, balanced(x_0, 5).flatten(1))
    assert not torch.equal(rows, balanced(x_0, 6).flatten(1))
    if count > 2:
        assert float(rows.var()) == pytest.approx(1, abs=0.15)


def test_the_nearest_two_pair_up_first() -> None:
    assert neighbours(torch.tensor([[0.0], [1.0], [1.4], [10.0], [12.0]])).tolist() == [0, 2, 1, 4, 3]
    assert neighbours(torch.tensor([[0.0], [2.0], [3.0], [9.0]])).tolist() == [3, 2, 1, 0]  # greedy, not optimal


def test_twins_pair_up_in_their_order() -> None:
    assert neighbours(torch.ones(5, 3)).tolist() == [1, 0, 3, 2, 4]


def test_a_large_class_is_paired_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([[0.0], [5.0], [0.1], [5.1], [0.2]])
    assert neighbours(rows).tolist() == [2, 3, 0, 1, 4]
    monkeypatch.setattr(noise, "PAIRED", 2)
    assert neighbours(rows).tolist() == [1, 0, 3, 2, 4]


def test_noise_comes_in_parts_that_hold_whole_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "PAIRED", 8)
    x_0 = images(21)
    parts = list(balanced_parts(x_0, 5))
    assert [len(part) for part in parts] == [8, 8, 5]
    assert torch.equal(torch.cat(parts), balanced(x_0, 5))
    assert torch.equal(parts[0], next(balanced_parts(x_0[:8], 5)))  # a part knows nothing of what follows
    for part in parts[:2]:
        torch.testing.assert_close(part.sum(0), torch.zeros(1, 8, 8), atol=1e-5, rtol=0)


def test_clusters_are_made_of_whole_pairs_while_there_are_enough() -> None:
    rows = images(24, 3).flatten(1)
    partner = neighbours(rows)
    for count in (2, 5, 12):
        weights = cluster_weights(rows, count, partner=partner)
        assert torch.equal(weights, weights[:, partner])
        assert ((weights > 0).sum(1) >= 2).all()
    alone = cluster_weights(rows, 13, partner=partner)
    assert not torch.equal(alone, alone[:, partner])
    assert torch.equal((alone > 0).sum(0), torch.ones(24))


def test_orthogonal_rows_keep_their_lengths_and_point_in_every_direction() -> None:
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    turned = orthogonal(rows)
    torch.testing.assert_close(turned.norm(dim=1), rows.norm(dim=1))
    torch.testing.assert_close(turned[0], rows[0])  # the first stays as it was drawn
    torch.testing.assert_close(orthogonal(-rows), -turned)  # no sign is preferred
