"""The energy by parts, with weights, and what chance and support points have."""

import pytest
import torch
from torch import Tensor

from dap.guidance.energy import Energy, set_energy
from dap.kernels import KERNELS, make_kernel


def rows(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_in_parts_or_whole_it_is_the_formula_and_its_gradient(kernel: str, power: int, repulsion: float) -> None:
    s, t = rows(4, 1), rows(9, 2)
    energy = Energy(kernel=kernel, power=power, repulsion=repulsion, bandwidth=2.0)
    leaf = s.clone().requires_grad_()
    expected = set_energy(leaf, t, make_kernel(kernel, t, 2.0), repulsion=repulsion, power=power)
    (gradient,) = torch.autograd.grad(expected, leaf)
    for parts in ([t], list(t.split(4)), list(t.split(1))):
        found = energy.slope([s], parts)
        torch.testing.assert_close(found.energies[0].sum(), expected.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.slopes[0], gradient, rtol=1e-5, atol=1e-6)


def test_sets_do_not_see_each_other() -> None:
    s, t = rows(6, 1), rows(9, 2)
    energy = Energy(repulsion=1.0)
    both = energy.slope([s[:2], s[2:]], [t])
    for k, alone in enumerate((s[:2], s[2:])):
        torch.testing.assert_close(both.slopes[k], energy.slope([alone], [t]).slopes[0])


def test_weights_choose_whom_an_image_sees() -> None:
    s, t = rows(2, 1), rows(5, 2)
    weights = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]])
    energy = Energy()
    for parts in ([t], list(t.split(2))):
        found = energy.slope([s], parts, weights)
        for row, seen in ((0, t[:2]), (1, t[2:])):
            alone = energy.slope([s[row : row + 1]], [seen])
            torch.testing.assert_close(found.energies[0][row], alone.energies[0][0], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found.slopes[0][row], alone.slopes[0][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("repulsion", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_expected_is_the_average_over_all_sets_of_real_rows(repulsion: float, count: int) -> None:
    """A set of real rows is at distance 0 from itself: that share of the pull, an N-th, is left out of the average."""
    t = rows(7, 2)
    energy = Energy(repulsion=repulsion)
    sets = torch.combinations(torch.arange(7), count).view(-1, count).tolist()
    average = torch.stack([energy.slope([t[chosen]], [t]).energies[0].sum() for chosen in sets]).mean()
    apart = torch.cdist(t, t).sum() / 42
    torch.testing.assert_close(energy.yardsticks(t, count)[0], average + count * apart / 7, rtol=1e-6, atol=1e-6)


def test_expected_with_weights_draws_each_row_from_its_own_cluster() -> None:
    t = rows(7, 2)
    weights = torch.tensor([[1 / 3] * 3 + [0] * 4, [0] * 3 + [1 / 4] * 4], dtype=torch.float64)
    d = torch.cdist(t, t)
    pull = d[:3, :3].sum() / 6 + d[3:, 3:].sum() / 12
    push = d[:3, 3:].mean()  # each of the two sees the other: half of it twice
    torch.testing.assert_close(
        Energy(repulsion=1.0).yardsticks(t, 2, weights)[0], pull - push / 2, rtol=1e-6, atol=1e-6
    )
    alike = torch.full((2, 7), 1 / 7, dtype=torch.float64)
    without, given = Energy().yardsticks(t, 2)[0], Energy().yardsticks(t, 2, alike)[0]
    torch.testing.assert_close(given, without, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("count", "each"), [(3, 40), (100, 4), (2, 400)])
def test_expected_with_many_clusters_is_estimated_from_all_of_them(count: int, each: int) -> None:
    """Clusters that lie one behind the other in the rows, far beyond the first 256."""
    t = rows(count * each, 2)
    weights = torch.zeros(count, count * each, dtype=torch.float64)
    for i in range(count):
        weights[i, i * each : (i + 1) * each] = 1 / each
    apart = torch.cdist(t, t).sum() / (len(t) * (len(t) - 1))
    alike = Energy(repulsion=1.0).yardsticks(t, count, weights)[0]
    by_hand = count * apart - 0.5 * (count - 1) * apart  # rows of one distribution, whatever the cluster
    assert float(alike) == pytest.approx(float(by_hand), rel=0.05)


def test_a_cluster_that_the_first_part_lacks_is_judged_by_all_of_it() -> None:
    t = rows(6, 2)
    weights = torch.tensor([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5]], dtype=torch.float64)
    assert torch.isfinite(Energy(repulsion=1.0).yardsticks(t[:3], 2, weights)[0])


def test_one_real_image_alone_gives_numbers() -> None:
    t = rows(1)
    assert float(Energy(repulsion=1.0).yardsticks(t, 3)[0]) == 0
    assert torch.isfinite(Energy(repulsion=1.0).slope([rows(3, 1)], [t]).slopes[0]).all()


def test_support_points_are_as_many_as_the_set_has_images_however_many_these_are() -> None:
    """Of 300, the energy to the first 300 rows: an average over pairs may be estimated from fewer, a set may not."""
    t = rows(300, 2)
    energy = Energy(repulsion=1.0)
    chance, best = energy.yardsticks(t, 300)
    torch.testing.assert_close(best, energy.slope([t], [t]).energies[0].sum(), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(chance - best, torch.cdist(t, t).sum() / 299 / 300, rtol=1e-6, atol=1e-4)
