"""Support points: the greedy rule, nested choices, and a smaller energy distance to the class than chance has."""

from dataclasses import replace

import pytest
import torch

from dap import support
from dap.baselines.rows import herding_rows
from dap.support import HERD, ORDERED, POOL, candidates, herds, small_pictures, support_points, supporting
from dap.testing import tiny_source


def energy_distance(rows: torch.Tensor, chosen: list[int]) -> float:
    d = torch.cdist(rows, rows)
    return float(2 * d[chosen].mean() - d[chosen][:, chosen].mean() - d.mean())


def cloud(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


def test_the_first_is_the_most_central_and_fewer_are_a_beginning_of_more() -> None:
    rows = cloud(60)
    chosen = support_points(rows, 20)
    assert chosen[0] == int(torch.cdist(rows, rows).mean(1).argmin())
    assert support_points(rows, 7) == chosen[:7]
    assert len(set(chosen)) == 20
    assert sorted(support_points(rows, 60)) == list(range(60))


def test_each_next_one_minimises_what_the_formula_says() -> None:
    rows = cloud(25, 3)
    d, chosen = torch.cdist(rows, rows), support_points(rows, 4)
    for m in range(1, 4):
        left = [j for j in range(25) if j not in chosen[:m]]
        score = {j: float(d[j].mean() - d[j, chosen[:m]].sum() / (m + 1)) for j in left}
        assert chosen[m] == min(score, key=score.__getitem__)


def test_they_stand_for_the_class_better_than_random_ones() -> None:
    rows = cloud(200, 1)
    draw = torch.Generator().manual_seed(0)
    random = [energy_distance(rows, torch.randperm(200, generator=draw)[:16].tolist()) for _ in range(20)]
    assert energy_distance(rows, support_points(rows, 16)) < min(0.4 * sum(random) / 20, min(random))


def test_duplicates_are_each_chosen_once() -> None:
    rows = torch.zeros(6, 3)
    assert support_points(rows, 6) == [0, 1, 2, 3, 4, 5]


def test_small_pictures_are_averages_and_small_images_stay_as_they_are() -> None:
    images = torch.arange(2 * 1 * 32 * 32).remainder(251).to(torch.uint8).view(2, 1, 32, 32)
    small = small_pictures(images)
    assert small.shape == (2, 256)
    torch.testing.assert_close(small[0, 0], images[0, 0, :2, :2].float().mean() / 255)
    torch.testing.assert_close(small_pictures(images[:, :, :8, :8]), images[:, :, :8, :8].float().flatten(1) / 255)


def test_a_source_of_support_points_keeps_their_order_and_classes_do_not_know_each_other() -> None:
    source = tiny_source(["ant", "bee"], 12)
    few = supporting(source, 5)
    assert few.counts == (5, 5)
    rows = small_pictures(source.images(1))
    assert few.keys[1] == tuple(source.keys[1][i] for i in support_points(rows, 5))
    assert supporting(source.restrict(["bee"]), 5).keys[0] == few.keys[1]
    assert supporting(source, 50).counts == (12, 12)
    whole = supporting(source, None)
    assert sorted(whole.keys[0]) == sorted(source.keys[0])
    assert ORDERED > 12


def test_a_class_used_whole_is_ordered_among_a_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "ORDERED", 3)
    compared = []
    monkeypatch.setattr(
        support, "small_pictures", lambda images: compared.append(len(images)) or small_pictures(images)
    )
    source = tiny_source(["ant", "bee"], 40)
    whole = supporting(source, None)
    assert compared == [3 * POOL] * 2
    for label in range(2):
        few = supporting(candidates(source, 3), 3).keys[label]
        assert whole.keys[label] == (*few, *(key for key in source.keys[label] if key not in few))


def test_the_pool_is_bounded_and_drawn_at_random() -> None:
    source = tiny_source(["ant"], 60)
    some = candidates(source, 4)
    assert some.counts == (4 * POOL,)
    assert set(some.keys[0]) < set(source.keys[0])
    assert some.keys[0] != source.keys[0][: 4 * POOL]
    assert candidates(source, None) is source
    assert candidates(source, 50).counts == (60,)


def test_a_large_class_shows_images_from_its_middle() -> None:
    source = tiny_source(["ant", "bee"], 60)
    source = replace(source, keys=(source.keys[0], source.keys[1][:20]))
    drawn = candidates(source, 5, 3)
    assert drawn.counts == (3 * HERD, 20)  # more than nine times three; too few, so support points
    few = supporting(drawn, 5, 3)
    assert few.counts == (3, 5)
    rows = small_pictures(drawn.images(0))
    assert few.keys[0] == tuple(drawn.keys[0][i] for i in herding_rows(rows, 3))
    rows = small_pictures(drawn.images(1))
    assert few.keys[1] == tuple(drawn.keys[1][i] for i in support_points(rows, 5))
    assert supporting(source, None, 3).counts == (60, 20)  # all of them


def test_a_few_unreadable_images_do_not_make_a_class_small() -> None:
    assert [herds(n, 24) for n in (216, 217, 239, 240)] == [False, True, True, True]
    assert not herds(10**6, None)
