"""Polyak's step: what it is, that it ends where E* is reached, and that no scale of anything matters."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dap.guidance import Representativeness
from dap.guidance.energy import Energy

AUTO = Representativeness(strength="auto", repulsion=1.0, reach=1e9)


def rows(n: int, seed: int = 0, dims: int = 6) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))


class Still:
    """A step of one class as far as `scaled` looks at it."""

    def __init__(self, count: int) -> None:
        self.units = [Named(0) for _ in range(count)]
        self.x_t, self.x_prev = torch.zeros(count, 1, 2, 2), torch.ones(count, 1, 2, 2)


class Named:
    def __init__(self, label: int) -> None:
        self.label = label


@pytest.mark.parametrize("beyond", [0.0, 1.0, 3.0])
def test_the_gap_is_the_energy_above_its_goal(beyond: float) -> None:
    s, t = rows(3, 1).double(), rows(20, 2).double()  # float32 rounds the 0 from an image to itself
    guidance = Representativeness(strength="auto", repulsion=1.0, beyond=beyond)
    energy = Energy(repulsion=1.0)
    now, best = (energy.slope([x], [t]).energies[0].sum() for x in (s, t[:3]))
    chance = energy.yardsticks(t, 3)[0]
    _, gap = guidance.pull(s, [t])
    torch.testing.assert_close(gap, (now - (chance - (1 + beyond) * (chance - best))).expand(3), rtol=1e-5, atol=1e-6)


def test_with_clusters_everything_is_weighed_by_cluster() -> None:
    """Now, at best (the first real image of each cluster) and by chance (two different images of one cluster)."""
    s, t = rows(2, 1), rows(6, 2)
    clusters = [[1, 2, 5], [0, 3, 4]]
    weights = torch.zeros(2, 6)
    for i, members in enumerate(clusters):
        weights[i, members] = 1 / 3
    d = torch.cdist(torch.cat([s, t]), torch.cat([s, t]))

    def energy(first: int, second: int) -> float:
        chosen = (first, second)
        pull = sum(float(d[x, [2 + j for j in members]].mean()) for x, members in zip(chosen, clusters, strict=True))
        return pull - 0.5 * float(d[first, second])  # 1/2 * 1/I * (d12 + d21)

    now, best = energy(0, 1), energy(2 + 1, 2 + 0)
    inside = [float(d[2 + i, 2 + j]) for members in clusters for i in members for j in members if i < j]
    across = [float(d[2 + i, 2 + j]) for i in clusters[0] for j in clusters[1]]
    chance = sum(inside) / 3 - 0.5 * sum(across) / 9
    assert best < chance
    guidance = Representativeness(strength="auto", repulsion=1.0, reference="cluster", beyond=2.0)
    _, gap = guidance.pull(s, [t], weights)
    torch.testing.assert_close(gap, torch.tensor(now - (chance - 3 * (chance - best))).expand(2), rtol=1e-3, atol=1e-3)


def test_support_points_worse_than_chance_ask_for_chance() -> None:
    t = torch.tensor([[9.0], [0.0], [0.1], [0.2]])  # the first is far from all others
    guidance, energy = Representativeness(strength="auto", beyond=3.0), Energy()
    s = torch.tensor([[5.0]])
    _, gap = guidance.pull(s, [t])
    assert float(energy.slope([t[:1]], [t]).energies[0]) > float(energy.yardsticks(t, 1)[0])
    torch.testing.assert_close(gap, energy.slope([s], [t]).energies[0] - energy.yardsticks(t, 1)[0])


def test_images_that_do_not_couple_have_each_its_own_gap() -> None:
    s, t = rows(3, 1), rows(20, 2)
    guidance = Representativeness(strength="auto")
    _, gap = guidance.pull(s, [t])
    for i in range(3):
        assert torch.equal(guidance.pull(s[i : i + 1], [t])[1], gap[i : i + 1])
    assert len(set(gap.tolist())) == 3


@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_to_first_order_the_step_closes_the_gap(repulsion: float) -> None:
    """<g, shift> = gap: of the class together where images couple, of each alone where not."""
    guidance = Representativeness(strength="auto", repulsion=repulsion, reach=1e9)
    g_t = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    gap = torch.full((3,), 0.5)
    step: Any = Still(3)
    closed = (guidance.scaled(g_t, gap, step) * g_t).flatten(1).sum(1)
    if repulsion:
        assert float(closed.sum()) == pytest.approx(0.5, rel=1e-5)
    else:
        torch.testing.assert_close(closed, gap)


def test_below_the_goal_nothing_is_moved_and_reach_bounds_the_rest() -> None:
    g_t, step = torch.full((2, 1, 2, 2), 1e-3), Still(2)
    guidance = Representativeness(strength="auto", reach=0.25)
    shift = guidance.scaled(g_t, torch.tensor([-1.0, 5.0]), step)  # type: ignore[arg-type]
    assert torch.equal(shift[0], torch.zeros(1, 2, 2))
    assert float(shift[1].norm()) == pytest.approx(0.25 * 2)  # the step's own length is 2


def test_the_scale_of_the_features_does_not_matter() -> None:
    """Twice the features: twice E and g, so (E - E*) / g^2 g is as it was, where gamma's step would double."""
    s, t = rows(3, 1).double(), rows(20, 2).double()  # a row's distance to itself is rounding: 3e-4 in float32
    step: Any = Still(3)
    shifts = []
    for factor in (1.0, 1000.0):
        slope, gap = AUTO.pull(factor * s, [factor * t])
        g_t = -(factor * slope[:, :4]).view(3, 1, 2, 2)  # as if the features were factor times the image
        shifts.append(AUTO.scaled(g_t, gap, step))
    torch.testing.assert_close(shifts[0], shifts[1], rtol=1e-5, atol=1e-7)


def test_descended_with_it_a_set_ends_at_its_goal_and_does_not_collapse() -> None:
    t = rows(60, 3, 2)
    s = 3 * rows(5, 4, 2)
    guidance = Representativeness(strength="auto", repulsion=1.0, beyond=0.0)
    gap = torch.ones(5)
    for _ in range(300):
        slope, gap = guidance.pull(s, [t])
        s = s - 0.5 * gap.clamp_min(0)[:, None] * slope / slope.square().sum().clamp_min(1e-9)
    assert float(gap[0]) == pytest.approx(0, abs=1e-2)
    assert float(torch.pdist(s).mean()) > 0.6 * float(torch.pdist(t).mean())
