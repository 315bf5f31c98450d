"""The contrast to other classes: the term of the energy, its gradient, its part in the goal, and what it does."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dap.errors import ConfigError
from dap.guidance import Representativeness
from dap.guidance.energy import Energy
from dap.kernels import KERNELS, distance, make_kernel, squared_distance
from dap.reference import Reference


def rows(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_it_takes_mu_times_the_sets_mean_distance_to_the_negatives_off_the_energy(
    kernel: str, power: int, repulsion: float, count: int
) -> None:
    s, t, u = rows(count, 1), rows(9, 2), rows(5, 3) + 2
    plain = Energy(kernel=kernel, power=power, repulsion=repulsion, bandwidth=2.0)
    centre = t.mean(0) if kernel in ("linear", "rbf", "laplace") else 0
    leaf = s.clone().requires_grad_()
    metric = squared_distance if power == 2 else distance
    away = 0.7 * metric(make_kernel(kernel, t, 2.0), leaf - centre, u - centre).mean()
    (gradient,) = torch.autograd.grad(away, leaf)
    found, without = replace(plain, contrast=0.7).slope([s], [t], negatives=u), plain.slope([s], [t])
    expected = without.energies[0].sum() - away.detach()
    torch.testing.assert_close(found.energies[0].sum(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.slopes[0], without.slopes[0] - gradient, rtol=1e-5, atol=1e-6)


def test_without_negatives_or_mu_nothing_changes_by_a_bit() -> None:
    s, t, u = rows(3, 1), rows(9, 2), rows(5, 3)
    plain = Energy(repulsion=1.0)
    expected = plain.slope([s], [t])
    for found in (plain.slope([s], [t], negatives=u), replace(plain, contrast=0.7).slope([s], [t])):
        assert torch.equal(found.slopes[0], expected.slopes[0])
        assert torch.equal(found.energies[0], expected.energies[0])


@pytest.mark.parametrize("clustered", [False, True])
def test_chance_and_support_points_are_judged_by_the_same_energy(clustered: bool) -> None:
    """E of random real rows, averaged over all draws, moves by the contrast that such rows have."""
    t, u, count = rows(6, 2), rows(5, 3), 2
    weights = torch.tensor([[1 / 3] * 3 + [0] * 3, [0] * 3 + [1 / 3] * 3], dtype=torch.float64) if clustered else None
    energy = Energy(repulsion=1.0)
    far = torch.cdist(t, u).mean(1)
    moved = energy.yardsticks(t, count, weights)[0] - replace(energy, contrast=0.5).yardsticks(t, count, weights, u)[0]
    torch.testing.assert_close(moved, 0.5 * far.mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_the_gap_to_the_goal_knows_the_contrast(repulsion: float) -> None:
    s, t, u = (x.float() for x in (rows(3, 1), rows(20, 2), rows(7, 3) + 1))
    guidance = Representativeness(strength="auto", repulsion=repulsion, contrast=0.6, beyond=2.0)
    energy = Energy(repulsion=repulsion, contrast=0.6)
    sets = [s] if repulsion else list(s.split(1))
    slope, gap = guidance.pull(s, [t], None, u)
    for k, part in enumerate(sets):
        now, best = (energy.slope([x], [t], negatives=u).energies[0].sum() for x in (part, t[: len(part)]))
        chance = energy.yardsticks(t, len(part), negatives=u)[0]
        goal = chance - 3 * (chance - best).clamp_min(0)
        torch.testing.assert_close(gap[k], now - goal, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(slope[: len(sets[0])], energy.slope([sets[0]], [t], negatives=u).slopes[0])


def test_with_clusters_the_gap_is_that_of_the_energy_now_over_that_of_the_goal() -> None:
    s, t, u = (x.float() for x in (rows(2, 1), rows(6, 2), rows(7, 3) + 1))
    weights = torch.tensor([[1 / 3] * 3 + [0] * 3, [0] * 3 + [1 / 3] * 3])
    options: dict[str, Any] = {"repulsion": 1.0, "contrast": 0.6}
    energy = Energy(**options)
    _, gap = Representativeness(strength="auto", reference="cluster", beyond=2.0, **options).pull(s, [t], weights, u)
    now, best = (energy.slope([x], [t], weights, u).energies[0].sum() for x in (s, t[[0, 3]]))
    chance = energy.yardsticks(t, 2, weights, u)[0]
    torch.testing.assert_close(gap[0], now - (chance - 3 * (chance - best).clamp_min(0)), rtol=1e-3, atol=1e-3)


def test_a_class_of_fewer_images_than_synthetic_ones_has_a_goal_of_as_many() -> None:
    """All its images, again and again: their contrast weighs as that of the images that are judged."""
    s, t, u = (x.float() for x in (rows(6, 1), rows(2, 2), rows(7, 3) + 1))
    options: dict[str, Any] = {"repulsion": 1.0, "contrast": 0.6}
    energy = Energy(**options)
    _, gap = Representativeness(strength="auto", reference="cluster", beyond=2.0, **options).pull(s, [t], None, u)
    now, best = (energy.slope([x], [t], negatives=u).energies[0].sum() for x in (s, t.repeat(3, 1)))
    chance = energy.yardsticks(t, 6, negatives=u)[0]
    torch.testing.assert_close(gap[0], now - (chance - 3 * (chance - best).clamp_min(0)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [{"gamma": 1.0}, {"strength": 0.3}])
def test_a_push_that_nothing_ends_is_refused(length: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"guidance.contrast is 1.0; use 0 \(off\) to less than 1, or strength=auto"):
        Representativeness(contrast=1.0, **length)
    assert Representativeness(contrast=1.0, strength="auto").contrast == 1.0


def test_images_that_do_not_couple_still_do_not_depend_on_each_other() -> None:
    s, t, u = (x.float() for x in (rows(3, 1), rows(20, 2), rows(7, 3)))
    guidance = Representativeness(strength=0.3, contrast=0.5)
    together = guidance.pull(s, [t], None, u)[0]
    for i in range(3):
        assert torch.equal(guidance.pull(s[i : i + 1], [t], None, u)[0], together[i : i + 1])


def test_a_guided_image_ends_farther_from_the_other_classes(bench: Any, units: Any) -> None:
    b = bench(real=6, steps=6)
    base = Representativeness(strength=0.5, tap="block.1")

    def far(guidance: Representativeness) -> float:
        s = b.sampler
        reference = Reference.of(guidance, s.backbone, b.source, s.classes, s.chain, rows=3)
        x = b.sample(units([0], 2), b.guided(guidance, reference))
        others = torch.cat([reference.latents(k) for k in range(1, len(reference.classes))])
        return float(torch.cdist(x.flatten(1), others.flatten(1)).mean())

    assert far(replace(base, contrast=0.9)) > far(base)
