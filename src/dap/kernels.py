"""Mercer kernels, and the distance that each induces. Pure, differentiable functions of feature rows.

    k(a [n, F], b [m, F]) -> [n, m]                     symmetric, positive semi-definite
    D_K(x, y) = sqrt(K(x, x) + K(y, y) - 2 K(x, y))     DAP, eq. 6

For the linear kernel D_K is the Euclidean distance of features. Compute in float32 or more; for kernels that see only
differences (`SHIFT_INVARIANT`) centre the features first, or squared norms of 1e5 drown the distance.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import Tensor

from dap.errors import ConfigError, unknown

Kernel = Callable[[Tensor, Tensor], Tensor]

TINY = 1e-12  # below the square of any distance that float32 features can resolve


def linear(a: Tensor, b: Tensor) -> Tensor:
    """a . b"""
    return a @ b.T


def rbf(a: Tensor, b: Tensor, *, bandwidth: float) -> Tensor:
    """exp(-|a - b|^2 / (2 bandwidth^2)); the bandwidth rule is the median Euclidean distance of the real rows."""
    return torch.exp(_squared(a, b) / (-2 * bandwidth**2))


def laplace(a: Tensor, b: Tensor, *, bandwidth: float) -> Tensor:
    """exp(-|a - b|_1 / bandwidth); the bandwidth rule is the median L1 distance of the real rows."""
    return torch.exp(torch.cdist(a, b, p=1.0) / -bandwidth)


def polynomial(a: Tensor, b: Tensor, *, degree: int = 3) -> Tensor:
    """(a . b / F + 1)^degree"""
    return (a @ b.T / a.shape[-1] + 1) ** degree


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """a . b / (|a| |b|); a row of zeros is at cosine 0 from everything."""
    return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).T


KERNELS: dict[str, Callable[..., Tensor]] = {f.__name__: f for f in (linear, rbf, laplace, polynomial, cosine)}
SHIFT_INVARIANT = frozenset({"linear", "rbf", "laplace"})
_NORM_OF_BANDWIDTH = {"rbf": 2.0, "laplace": 1.0}


def check_kernel_name(name: str) -> None:
    """Raises ConfigError unless `name` is a kernel here or an import path `package.module:name` of a function."""
    if name not in KERNELS:
        _imported(name)


def make_kernel(name: str, real: Tensor, bandwidth: float | None = None) -> Kernel:
    """The kernel called `name`, its bandwidth taken from the real rows [N, F] when none is given.

    Raises: ConfigError for an unknown name or an import path that leads nowhere.
    """
    if name in _NORM_OF_BANDWIDTH:
        return partial(KERNELS[name], bandwidth=bandwidth or median_distance(real, _NORM_OF_BANDWIDTH[name]))
    return KERNELS[name] if name in KERNELS else _imported(name)


def _imported(name: str) -> Kernel:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(unknown("kernel", name, KERNELS) + "; or an import path package.module:name")
    try:
        kernel: Kernel = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"kernel {name!r} cannot be imported: {error}") from None
    if not callable(kernel):
        raise ConfigError(f"kernel {name!r} is a {type(kernel).__name__}; it must be a function k(a, b) -> [n, m]")
    return kernel


def median_distance(rows: Tensor, norm: float = 2.0, most: int = 256) -> float:
    """The median distance between rows [N, F] (of the first `most`), the bandwidth rule; 1 when all rows agree."""
    rows = rows[:most]
    if len(rows) < 2:
        return 1.0
    pairs = torch.pdist(rows, p=norm)
    return float(pairs.median()) or 1.0


def diagonal(kernel: Kernel, rows: Tensor) -> Tensor:
    """k(a_i, a_i) [n], row by row: read off k(a, a) it would carry the rounding of a matrix product."""
    if kernel is linear:
        return rows.square().sum(-1)
    one: Tensor = torch.vmap(lambda row: kernel(row[None], row[None])[0, 0])(rows)
    return one


def squared_distance(kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
    """D_K^2 [n, m], at least 0."""
    return (diagonal(kernel, a)[:, None] + diagonal(kernel, b)[None, :] - 2 * kernel(a, b)).clamp_min(0)


def distance(kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
    """D_K [n, m]. Its gradient at distance zero is zero, where the bare square root would give NaN."""
    return squared_distance(kernel, a, b).clamp_min(TINY).sqrt()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 [n, m], at least 0."""
    return (a.square().sum(-1)[:, None] + b.square().sum(-1)[None, :] - 2 * a @ b.T).clamp_min(0)
