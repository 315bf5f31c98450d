"""Kernels are symmetric and positive semi-definite, and the distance each induces is a pseudo-metric."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dap.errors import ConfigError
from dap.kernels import (
    KERNELS,
    SHIFT_INVARIANT,
    check_kernel_name,
    cosine,
    diagonal,
    distance,
    laplace,
    linear,
    make_kernel,
    median_distance,
    polynomial,
    rbf,
    squared_distance,
)
from dap.testing import check_kernel


def rows(n: int, dims: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sign(a: Tensor, b: Tensor) -> Tensor:
    """Not a kernel: symmetric, but with negative eigenvalues."""
    return -linear(a, b)


def lopsided(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T + a.sum(1, keepdim=True)


@pytest.mark.parametrize("dims", [1, 8, 100])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_kernel_keeps_the_contract(name: str, dims: int) -> None:
    check_kernel(make_kernel(name, rows(10, dims)), dims)


@pytest.mark.parametrize("bandwidth", [0.1, 1.0, 30.0])
def test_whatever_the_bandwidth(bandwidth: float) -> None:
    check_kernel(partial(rbf, bandwidth=bandwidth))
    check_kernel(partial(laplace, bandwidth=bandwidth))


@pytest.mark.parametrize("broken", [sign, lopsided, lambda a, b: torch.zeros(len(a)), lambda a, b: torch.cdist(a, b)])
def test_the_check_finds_what_is_no_kernel(broken: Any) -> None:
    with pytest.raises(AssertionError):
        check_kernel(broken)


def test_the_linear_kernels_distance_is_the_euclidean_one() -> None:
    a, b = rows(4), rows(7, seed=1)
    torch.testing.assert_close(distance(linear, a, b), torch.cdist(a, b))


def test_the_values_are_what_the_docstrings_say() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    cases = [
        (linear, 1.0),
        (partial(rbf, bandwidth=2.0), torch.exp(torch.tensor(-13 / 8))),
        (partial(laplace, bandwidth=2.0), torch.exp(torch.tensor(-5 / 2))),
        (polynomial, (1 / 2 + 1) ** 3),
        (cosine, 1 / (5 * 10) ** 0.5),
    ]
    for kernel, value in cases:
        assert float(kernel(a, b)) == pytest.approx(float(value))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_diagonal_is_taken_row_by_row(name: str) -> None:
    a = rows(5)
    k = make_kernel(name, a)
    torch.testing.assert_close(diagonal(k, a), k(a, a).diagonal())
    assert torch.equal(diagonal(k, a)[2:3], diagonal(k, a[2:3]))


@pytest.mark.parametrize("name", sorted(SHIFT_INVARIANT))
def test_shift_invariant_kernels_see_only_differences(name: str) -> None:
    a, b = rows(4), rows(6, seed=1)
    k = make_kernel(name, b)
    torch.testing.assert_close(distance(k, a + 3, b + 3), distance(k, a, b), rtol=1e-5, atol=1e-5)


def test_a_row_of_zeros_is_at_cosine_zero_from_everything() -> None:
    zero, b = torch.zeros(1, 6, dtype=torch.float64), rows(3)
    assert torch.equal(cosine(zero, b), torch.zeros(1, 3, dtype=torch.float64))
    assert torch.isfinite(distance(cosine, zero, b)).all()


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_gradient_of_a_distance_of_zero_is_zero_and_not_nan(name: str) -> None:
    a = rows(1).requires_grad_()
    k = make_kernel(name, rows(5))
    for metric in (distance, squared_distance):
        (slope,) = torch.autograd.grad(metric(k, a, a.detach()).sum(), a)
        assert torch.isfinite(slope).all()
        assert float(slope.norm()) < 1e-6


def test_the_bandwidth_is_the_median_distance_of_the_real_rows() -> None:
    real = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])  # Euclidean 5, 5, 10; L1 7, 7, 14
    assert median_distance(real) == 5
    assert median_distance(real, norm=1.0) == 7
    a, b = rows(3, 2).float(), rows(4, 2, seed=1).float()
    torch.testing.assert_close(make_kernel("rbf", real)(a, b), rbf(a, b, bandwidth=5.0))
    torch.testing.assert_close(make_kernel("laplace", real)(a, b), laplace(a, b, bandwidth=7.0))
    torch.testing.assert_close(make_kernel("rbf", real, 2.0)(a, b), rbf(a, b, bandwidth=2.0))
    assert median_distance(real[:1]) == 1  # nothing to take a median of
    assert median_distance(real[:1].expand(4, 2)) == 1


def test_unknown_names_give_the_nearest_and_import_paths_are_followed() -> None:
    with pytest.raises(ConfigError, match=r"unknown kernel 'lapalce'; did you mean 'laplace'.*package.module:name"):
        make_kernel("lapalce", rows(2))
    assert make_kernel("dap.kernels:cosine", rows(2)) is cosine
    check_kernel_name("dap.kernels:cosine")


@pytest.mark.parametrize("path", ["no.such.module:k", "dap.kernels:nothing", "dap.kernels:", ":k", ".x:k", "math:pi"])
def test_an_import_path_that_leads_nowhere_is_refused_before_anything_starts(path: str) -> None:
    with pytest.raises(ConfigError, match=f"kernel '{path}'"):
        check_kernel_name(path)
