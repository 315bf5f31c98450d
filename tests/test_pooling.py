"""Features to rows and a gradient back: one is the other's transpose, and projected distances are kept on average."""

import math

import pytest
import torch

from dap.pooling import Pooling


@pytest.mark.parametrize("projection", [None, 3, 1000])
@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 2, 5)])
@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_back_is_the_transpose_of_rows(shape: tuple[int, ...], pool: str, projection: int | None) -> None:
    """<rows(f), v> = <f, back(v)>: what the chain rule needs."""
    pooling = Pooling(pool=pool, projection=projection)
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=draw)
    rows = pooling.rows(features)
    whole = math.prod(shape[1:]) if pool == "flatten" else 4
    assert rows.shape == (3, min(whole, projection or whole))
    v = torch.randn(rows.shape, generator=draw)
    back = pooling.back(v, features)
    assert back.shape == features.shape
    torch.testing.assert_close((rows * v).sum(), (features * back).sum())


def test_rows_are_float32() -> None:
    assert Pooling().rows(torch.zeros(2, 3, 4, dtype=torch.float16)).dtype == torch.float32
    assert Pooling(pool="mean").rows(torch.zeros(2, 3, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_projection_is_linear_the_same_every_time_and_keeps_distances_on_average() -> None:
    pooling, draw = Pooling(projection=256), torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 40, 64, 32, generator=draw)
    torch.testing.assert_close(pooling.rows(a + 2 * b), pooling.rows(a) + 2 * pooling.rows(b), rtol=1e-4, atol=1e-4)
    ratio = (pooling.rows(a) - pooling.rows(b)).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)
    assert float(ratio.std()) < 2 / 256**0.5
