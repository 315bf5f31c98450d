"""The numbers on cases whose answer is known: ideal, degenerate, and whatever does not depend on order or blocks."""

import math

import pytest
import torch
from torch import Tensor

from dap.metrics import Real, interval, score, vendi


def cloud(count: int, numbers: int = 6, seed: int = 0, at: float = 0.0) -> Tensor:
    return at + torch.randn(count, numbers, generator=torch.Generator().manual_seed(seed))


def brute_energy(s: Tensor, t: Tensor) -> float:
    def mean(a: Tensor, b: Tensor) -> float:
        return float(torch.stack([(x - y).norm() for x in a.double() for y in b.double()]).mean())

    return 2 * mean(s, t) - mean(s, s) - mean(t, t)


def test_the_class_itself_is_the_ideal_set() -> None:
    t = cloud(40)
    found = score(t, Real.of(t))
    assert found.energy_distance == pytest.approx(0, abs=1e-5)
    assert found.coverage == 1
    assert found.near_copies == 1, "every image of the set is a training image"
    assert found.nearest == tuple(range(40))
    assert found.nearest_distance == (0.0,) * 40


def test_the_energy_distance_is_its_formula() -> None:
    s, t = cloud(5, seed=1, at=0.7), cloud(17)
    found, real = score(s, Real.of(t)), Real.of(t)
    assert found.energy_distance == pytest.approx(brute_energy(s, t), rel=1e-5)
    assert found.mean_distance == pytest.approx(float(torch.cdist(s, t).mean()), rel=1e-5)
    assert found.mean_pairwise == pytest.approx(float(torch.pdist(s).mean()), rel=1e-5)
    assert real.mean_distance == pytest.approx(float(torch.cdist(t, t).mean()), rel=1e-5)


def test_two_points_apart_have_twice_their_distance() -> None:
    s, t = torch.zeros(3, 4), torch.zeros(5, 4)
    t[:, 0] = 2.5
    assert score(s, Real.of(t)).energy_distance == pytest.approx(5.0)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_copies_of_one_image_are_one_image(scale: float) -> None:
    t = scale * cloud(30)
    copies = t[:1].expand(8, -1).contiguous()
    found = score(copies, Real.of(t))
    assert found.vendi == pytest.approx(1, abs=1e-6)
    assert found.mean_pairwise == 0
    assert found.coverage is not None
    assert found.coverage < 0.7


def test_strangers_count_in_full_and_groups_count_once() -> None:
    far = 1e3 * torch.eye(6)
    assert vendi(far, torch.zeros(6), 1.0) == pytest.approx(6)
    assert vendi(torch.cat([far[:3]] * 4), torch.zeros(6), 1.0) == pytest.approx(3)
    assert vendi(far[:1], torch.zeros(6), 1.0) == pytest.approx(1)


def test_a_class_drawn_to_its_centre_is_not_diverse() -> None:
    t = cloud(100, seed=3)
    spread, drawn = cloud(10, seed=4), 0.05 * cloud(10, seed=4)
    real = Real.of(t)
    assert score(drawn, real).vendi < 1.2 < 3 < score(spread, real).vendi
    assert score(drawn, real).mean_distance < score(spread, real).mean_distance, "which mean D_K alone takes for good"
    assert score(drawn, real).energy_distance > score(spread, real).energy_distance


def test_half_of_the_class_left_out_is_seen() -> None:
    left, right = cloud(50, seed=5), cloud(50, seed=6, at=20.0)
    real = Real.of(torch.cat([left, right]))
    half, both = score(cloud(12, seed=7), real), score(torch.cat([cloud(6, seed=7), cloud(6, seed=8, at=20)]), real)
    assert half.coverage is not None
    assert both.coverage is not None
    assert half.coverage <= 0.5
    assert half.energy_distance > 10 * both.energy_distance


def test_nothing_depends_on_order_or_on_the_size_of_blocks() -> None:
    s, t = cloud(9, seed=1), cloud(31)
    order, others = torch.randperm(9), torch.randperm(31)
    first, second = score(s, Real.of(t)), score(s[order], Real.of(t[others], block=4), block=7)
    for name in ("energy_distance", "mean_distance", "vendi", "mean_pairwise", "coverage", "near_copies"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-5, abs=1e-6), name
    assert [int(others[at]) for at in second.nearest] == [first.nearest[int(i)] for i in order]


def test_a_shift_of_feature_space_changes_nothing() -> None:
    s, t = cloud(6, seed=1), cloud(20)
    here, there = score(s, Real.of(t)), score(s + 300, Real.of(t + 300))
    assert there.energy_distance == pytest.approx(here.energy_distance, rel=1e-3)
    assert there.coverage == here.coverage


def test_a_near_copy_is_closer_than_the_images_own_neighbour() -> None:
    t = 10 * torch.eye(8)  # every image's nearest neighbour is 14.1 away
    s = torch.cat([t[:1] + 0.01, torch.full((1, 8), 40.0)])
    found = score(s, Real.of(t))
    assert found.copies == (True, False)
    assert found.near_copies == 0.5


def test_the_middle_of_a_group_is_nearer_to_each_than_they_are_to_each_other() -> None:
    t = torch.cat([cloud(12, 30, seed=k, at=20.0 * k) for k in range(10)])
    means = t.unflatten(0, (10, 12)).mean(1)
    others = torch.cat([cloud(20, 30, seed=100 + k, at=20.0 * k) for k in range(10)])
    assert score(means, Real.of(t)).near_copies == 1, "though none of them is a copy"
    assert score(others, Real.of(t)).near_copies < 0.8


def test_one_real_image_has_no_neighbours_and_one_synthetic_no_pairs() -> None:
    found = score(cloud(1, seed=1), Real.of(cloud(1)))
    assert (found.coverage, found.near_copies, found.mean_pairwise) == (None, None, None)
    assert found.vendi == 1
    assert found.energy_distance == pytest.approx(2 * found.mean_distance)


def test_held_out_images_are_as_if_they_had_never_been_there() -> None:
    t, held_out = cloud(60), torch.tensor([3, 17, 41])
    rest = torch.ones(60, dtype=torch.bool)
    rest[held_out] = False
    known, fresh = Real.of(t).without(held_out), Real.of(t[rest])
    assert known.mean_distance == pytest.approx(fresh.mean_distance, rel=1e-4)
    assert torch.allclose(known.near[rest][:, :5], fresh.near[:, :5], atol=1e-4)
    one, other = score(t[held_out], known), score(t[held_out], fresh)
    for name in ("energy_distance", "mean_distance", "coverage", "near_copies"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-4), name
    positions = rest.nonzero().flatten()
    assert [int(positions[at]) for at in other.nearest] == list(one.nearest)


def test_random_real_images_do_better_than_random_noise() -> None:
    t = cloud(200)
    known = Real.of(t)
    drawn = score(t[:20], known.without(torch.arange(20)))
    noise = score(3 * cloud(20, seed=9), known)
    assert drawn.energy_distance < noise.energy_distance
    assert drawn.coverage > noise.coverage  # type: ignore[operator]


def test_intervals_hold_the_mean_and_have_no_width_where_classes_agree() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert found["mean"] == 2.5
    assert found["low"] < 2.5 < found["high"]  # type: ignore[operator]
    assert interval([2.0] * 5) == {"mean": 2.0, "low": 2.0, "high": 2.0}
    assert interval([1.0, 2.0, 3.0, 4.0]) == found, "the same numbers, the same interval"
    assert interval([2.0]) == {"mean": 2.0, "low": None, "high": None}
    assert interval([None, None]) == {"mean": None, "low": None, "high": None}
    assert interval([None, 1.0, 3.0])["mean"] == 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        values = torch.randn(25, generator=torch.Generator().manual_seed(seed)).tolist()
        found = interval(values, resamples=300)
        hits += found["low"] <= 0 <= found["high"]  # type: ignore[operator]
    assert 0.85 < hits / 200 < 0.99
    assert not math.isnan(hits)
