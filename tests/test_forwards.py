"""Rows cut into forward passes."""

import pytest
import torch

from dap.forwards import equal_forwards, recut


@pytest.mark.parametrize("count", [1, 5, 96, 97])
@pytest.mark.parametrize("rows", [1, 3, 96, 200])
def test_forwards_are_as_few_and_as_equal_as_can_be(count: int, rows: int) -> None:
    sizes = equal_forwards(count, rows)
    assert sizes == [len(part) for part in torch.arange(count).tensor_split(-(-count // rows))]
    assert max(sizes) <= rows


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 3, 4], [7, 2]])
@pytest.mark.parametrize("part", [1, 4, 10])
def test_rows_stay_the_same_however_they_are_cut(sizes: list[int], part: int) -> None:
    rows = torch.arange(10.0)
    cut = list(recut(iter(rows.split(part)), sizes))
    assert [len(x) for x in cut] == sizes
    assert torch.equal(torch.cat(cut), rows[: sum(sizes)])
