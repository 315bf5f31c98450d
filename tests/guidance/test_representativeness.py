"""The energy of a set: its formulas, its gradient where it is delicate, and the options of the guidance."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dap.errors import BackboneError, ConfigError
from dap.guidance import Representativeness
from dap.guidance.energy import set_energy
from dap.kernels import KERNELS, Kernel, distance, linear, make_kernel, rbf
from dap.testing import tiny_dit

GAMMA = Representativeness(gamma=1.0)


def rows(n: int, dims: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def off_diagonal(square: Tensor) -> Tensor:
    return square[~torch.eye(len(square), dtype=torch.bool)]


def kernel_of(name: str, real: Tensor) -> Kernel:
    return make_kernel(name, real)


# --- the formulas of method.md, section 2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_power_2_repulsion_1_is_i_times_the_squared_mmd(name: str) -> None:
    s, t = rows(5, seed=1), rows(9, seed=2)
    k = kernel_of(name, t)
    squared_mmd = k(s, s).mean() - 2 * k(s, t).mean() + k(t, t).mean()
    only_of_t = k(t, t).diagonal().mean() - k(t, t).mean()
    given = set_energy(s, t, k, repulsion=1.0, power=2)
    torch.testing.assert_close(given, len(s) * (squared_mmd + only_of_t))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_power_1_repulsion_1_is_half_i_times_the_energy_distance(name: str) -> None:
    s, t = rows(5, seed=1), rows(9, seed=2)
    k = kernel_of(name, t)
    count = len(s)
    within = off_diagonal(distance(k, s, s)).sum() / count**2
    real = off_diagonal(distance(k, t, t)).sum() / len(t) ** 2
    energy_distance = 2 * distance(k, s, t).mean() - within - real
    given = set_energy(s, t, k, repulsion=1.0, power=1)
    torch.testing.assert_close(given, count / 2 * (energy_distance + real), rtol=1e-5, atol=1e-5)


def test_the_class_itself_is_the_best_set_there_is() -> None:
    """The energy distance of a set to itself is 0: at t the slope vanishes, which 1/(I-1) would not give."""
    t = rows(6, seed=2)
    guidance = Representativeness(gamma=1.0, repulsion=1.0)
    at_t, elsewhere = (guidance.pull(s, [t])[0].norm() for s in (t, t + 0.1 * rows(6, seed=3)))
    assert at_t < 1e-5 * elsewhere


def test_repulsion_0_is_the_papers_sum_over_images() -> None:
    s, t = rows(4, seed=1), rows(7, seed=2)
    each = [torch.stack([(a - b).norm() for b in t]).mean() for a in s]
    torch.testing.assert_close(set_energy(s, t, linear, repulsion=0.0, power=1), torch.stack(each).sum())


def test_one_image_has_no_second_term() -> None:
    s, t = rows(1), rows(7, seed=2)
    for power in (1, 2):
        with_it, without = (set_energy(s, t, linear, repulsion=r, power=power) for r in (1.0, 0.0))
        assert with_it == without


def test_the_order_of_images_and_of_real_ones_does_not_matter() -> None:
    s, t = rows(4), rows(7, seed=2)
    for power in (1, 2):
        one = set_energy(s, t, linear, repulsion=1.0, power=power)
        torch.testing.assert_close(one, set_energy(s.flip(0), t.flip(0), linear, repulsion=1.0, power=power))


def test_repulsion_keeps_a_set_apart_that_the_pull_alone_collapses() -> None:
    """Descended from real points, lambda 0 ends with all images at the class's centre, lambda 1 keeps the spread."""
    t = rows(40, 2, seed=3)

    def descended(repulsion: float) -> float:
        s = t[:6].clone()
        guidance = Representativeness(gamma=1.0, repulsion=repulsion)
        for _ in range(200):
            s = s - 0.02 * guidance.pull(s, [t])[0]
        return float(torch.pdist(s).mean())

    spread = float(torch.pdist(t).mean())
    assert descended(0.0) < 0.35 * spread
    assert descended(1.0) > 0.7 * spread


# --- the gradient -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("repulsion", [0.0, 0.5, 1.0])
def test_slope_is_the_finite_difference_of_the_energy(name: str, power: int, repulsion: float) -> None:
    s, t = rows(3, seed=1), rows(5, seed=2)
    guidance = replace(GAMMA, kernel=name, power=power, repulsion=repulsion)
    centre = t.mean(0) if name in ("linear", "rbf", "laplace") else 0
    k = make_kernel(name, t - centre)

    def energy(at: Tensor) -> float:
        return float(set_energy(at - centre, t - centre, k, repulsion=repulsion, power=power))

    slope, h = guidance.pull(s, [t])[0], 1e-6
    for i in range(3):
        for j in (0, 5):
            step = torch.zeros_like(s)
            step[i, j] = h
            expected = (energy(s + step) - energy(s - step)) / (2 * h)
            assert float(slope[i, j]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_the_gradient_is_finite_where_points_coincide(name: str, power: int, repulsion: float) -> None:
    t = rows(6, seed=2, dtype=torch.float32)
    same = t[:1].expand(4, -1).clone()  # every image on the same real one
    slope = replace(GAMMA, kernel=name, power=power, repulsion=repulsion).pull(same, [t])[0]
    assert torch.isfinite(slope).all()
    alone = replace(GAMMA, kernel=name, power=power, repulsion=repulsion).pull(t[:1], [t[:1]])[0]
    assert torch.isfinite(alone).all()
    assert float(alone.abs().max()) < 1e-2  # on its only real image there is nothing to do


def test_coinciding_images_do_not_repel_each_other_but_are_still_pulled() -> None:
    t = rows(6, seed=2, dtype=torch.float32)
    same = rows(1, seed=3, dtype=torch.float32).expand(3, -1).clone()
    pulled, coupled = (replace(GAMMA, repulsion=r).pull(same, [t])[0] for r in (0.0, 1.0))
    torch.testing.assert_close(coupled, pulled, rtol=1e-4, atol=1e-4)
    assert float(pulled.norm()) > 0.1


@pytest.mark.parametrize("name", ["linear", "rbf", "laplace"])
@pytest.mark.parametrize("power", [1, 2])
def test_features_far_from_the_origin_lose_nothing(name: str, power: int) -> None:
    """In float32 squared norms of 1e6 would turn a true D^2 of .3 into rounding; centring keeps it."""
    guidance = replace(GAMMA, kernel=name, power=power, repulsion=1.0)
    s, t = (0.1 * rows(n, seed=n, dtype=torch.float32) for n in (4, 8))
    offset = torch.full((6,), 1024.0)  # norm 2508; the sums below are exact in float32 after rounding once
    s, t = ((x + offset) - offset for x in (s, t))
    near, far = guidance.pull(s, [t])[0], guidance.pull(s + offset, [t + offset])[0]
    torch.testing.assert_close(far, near, rtol=2e-3, atol=2e-3 * float(near.abs().max()))


def test_an_image_alone_has_the_slope_that_it_has_in_a_batch_bit_for_bit() -> None:
    s, t = rows(7, 200, seed=1, dtype=torch.float32), rows(33, 200, seed=2, dtype=torch.float32)
    for name in sorted(KERNELS):
        guidance = replace(GAMMA, kernel=name)
        batch = guidance.pull(s, [t])[0]
        for i in range(7):
            assert torch.equal(guidance.pull(s[i : i + 1], [t])[0][0], batch[i]), name


# --- length -----------------------------------------------------------------------------------------------------------


NO_GAP = torch.zeros(2)


class Moved:
    """A step as far as `scaled` looks at it."""

    x_t = torch.zeros(2, 1, 2, 2)
    x_prev = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])


def test_a_vanishing_gradient_gives_a_vanishing_shift_and_not_nan() -> None:
    g_t = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    step: Any = Moved()
    shift = Representativeness(strength=0.5).scaled(g_t, NO_GAP, step)
    assert torch.equal(shift[0], torch.zeros(1, 2, 2))
    assert float(shift[1].norm()) == pytest.approx(0.5 * 6)


def test_strength_does_not_see_the_gradients_length_and_gamma_does() -> None:
    g_t = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    step: Any = Moved()
    relative, absolute = Representativeness(strength=0.5), Representativeness(gamma=0.5)
    torch.testing.assert_close(relative.scaled(1000 * g_t, NO_GAP, step), relative.scaled(g_t, NO_GAP, step))
    torch.testing.assert_close(absolute.scaled(1000 * g_t, NO_GAP, step), 1000 * absolute.scaled(g_t, NO_GAP, step))


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either gamma or strength"),
        ({"gamma": float("inf")}, "guidance.gamma is inf; use a finite number"),
        ({"strength": "auto", "beyond": float("inf")}, "guidance.beyond is inf; use a finite number"),
        ({"gamma": 1.0, "strength": 0.3}, "either gamma or strength, got gamma=1.0 and strength=0.3"),
        ({"gamma": -1.0}, "is -1.0; use 0"),
        ({"strength": float("nan")}, "is nan"),
        ({"gamma": 1.0, "kernel": "lineer"}, "unknown kernel 'lineer'; did you mean 'linear'"),
        ({"gamma": 1.0, "pool": "max"}, "guidance.pool is 'max'; use 'flatten' or 'mean'"),
        ({"gamma": 1.0, "repulsion": -0.1}, "guidance.repulsion is -0.1"),
        ({"gamma": 1.0, "repulsion": "some"}, "guidance.repulsion is some; use 0 (the paper) or more"),
        ({"gamma": 1.0, "contrast": -0.1}, "guidance.contrast is -0.1"),
        ({"gamma": 1.0, "power": 3}, "guidance.power is 3; use 1 or 2"),
        ({"gamma": 1.0, "bandwidth": 0.0}, "guidance.bandwidth is 0.0"),
        ({"gamma": 1.0, "interval": (0.5, 0.5)}, "guidance.interval is [0.5, 0.5]"),
        ({"gamma": 1.0, "interval": (-0.1, 0.5)}, "guidance.interval is [-0.1, 0.5]"),
        ({"gamma": 1.0, "reference_size": 0}, "guidance.reference_size is 0"),
        ({"gamma": 1.0, "reference_size": "most"}, "guidance.reference_size is most; use 1 or more, or all"),
        ({"gamma": 1.0, "projection": 0}, "guidance.projection is 0"),
        ({"gamma": 1.0, "reference_spacing": -1}, "guidance.reference_spacing is -1"),
        ({"gamma": 1.0, "reference": "clusters"}, "guidance.reference is 'clusters'; use 'class' or 'cluster'"),
        ({"strength": "automatic"}, "guidance.strength is 'automatic'; use a number such as 0.3, or auto"),
        ({"strength": "auto", "beyond": -1.0}, "guidance.beyond is -1.0"),
        ({"strength": "auto", "reach": 0.0}, "guidance.reach is 0.0"),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_what_would_work(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Representativeness(**options)
    assert said in str(caught.value)


def test_scale_off_and_couples_follow_from_the_options() -> None:
    assert Representativeness(gamma=0.0).off
    assert Representativeness(strength=0.0, repulsion=1.0).off
    assert not Representativeness(strength=0.1).off
    assert Representativeness(gamma=2.0).scale == 2.0
    assert not Representativeness(gamma=2.0).couples
    assert Representativeness(gamma=2.0, repulsion=0.5).couples
    assert Representativeness(gamma=2.0, repulsion="auto").couples


def test_repulsion_auto_grows_with_the_images_of_a_class_and_a_number_stays(bench: Any) -> None:
    def decided(repulsion: float | str, ipc: int) -> float | str:
        guidance = replace(GAMMA, tap="block.1", repulsion=repulsion)
        return guidance.decided(bench().reference(ipc=ipc)).repulsion

    found = [decided("auto", ipc) for ipc in (1, 2, 5, 10, 50)]
    assert found == pytest.approx([0.07, 0.14, 0.35, 0.7, 0.7])
    assert found[3] == found[4] == 0.7
    assert [decided(x, 2) for x in (0.0, 1.0)] == [0.0, 1.0]


def test_the_tap_is_the_backbones_own_unless_named_and_must_exist() -> None:
    backbone = tiny_dit(depth=4)
    assert GAMMA.resolved(backbone).tap == backbone.default_tap == "block.1"
    assert replace(GAMMA, tap="block.3").resolved(backbone).tap == "block.3"
    with pytest.raises(BackboneError, match=r"unknown tap of tiny 'block.9'; did you mean .*Known: block.0, block.1"):
        replace(GAMMA, tap="block.9").resolved(backbone)


def test_a_bandwidth_of_ones_own_is_used() -> None:
    s, t = rows(2), rows(5, seed=2)
    wide = replace(GAMMA, kernel="rbf", bandwidth=50.0).pull(s, [t])[0]
    leaf = s.clone().requires_grad_()
    k = partial(rbf, bandwidth=50.0)
    (expected,) = torch.autograd.grad(set_energy(leaf, t, k, repulsion=0.0, power=1), leaf)
    torch.testing.assert_close(wide, expected, rtol=1e-4, atol=1e-6)
