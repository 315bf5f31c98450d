"""Reading a layer's output: what runs, what has a graph, and that autograd is left as it was found."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dap.backbones.tapping import run_through, stop_at


class Net(nn.Module):
    """Three layers; the middle one may return (hidden, skips) as U-Net blocks do, the last one may raise."""

    def __init__(self, tuple_output: bool = False, fail: bool = False) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 4), nn.Module(), nn.Linear(4, 4)
        self.inner, self.tuple_output, self.fail = nn.Linear(4, 4), tuple_output, fail
        self.middle.forward = self._middle
        self.behind: list[bool] = []

    def _middle(self, x: Tensor) -> Any:
        hidden = self.inner(x).tanh()
        return (hidden, (x, hidden)) if self.tuple_output else hidden

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.middle(self.first(x))
        hidden = hidden[0] if self.tuple_output else hidden
        self.behind.append(torch.is_grad_enabled())
        if self.fail:
            raise ValueError("behind the tap")
        return self.last(hidden)


def rows() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("tuple_output", [False, True])
def test_output_and_features_are_those_of_the_plain_forward_pass(tuple_output: bool) -> None:
    net, x = Net(tuple_output), rows()
    out, features = run_through(net.middle, lambda: net(x))
    assert torch.equal(out, net(x))
    assert torch.equal(features, net.inner(net.first(x)).tanh())
    assert torch.equal(stop_at(net.middle, lambda: net(x)), features)


@pytest.mark.parametrize("tuple_output", [False, True])
def test_the_graph_reaches_from_x_to_the_tap_and_not_beyond(tuple_output: bool) -> None:
    net, x = Net(tuple_output), rows()
    out, features = run_through(net.middle, lambda: net(x))
    assert not out.requires_grad
    assert net.behind == [False]  # switched off for the rest of the pass
    (slope,) = torch.autograd.grad(features.sum(), x)
    assert float(slope.norm()) > 0
    assert not stop_at(net.middle, lambda: net(x)).requires_grad


def test_stop_at_leaves_the_pass_at_the_tap() -> None:
    net = Net(fail=True)
    stop_at(net.middle, lambda: net(rows()))
    assert net.behind == []


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("where", ["behind", "before", "nowhere"])
@pytest.mark.parametrize("read", [run_through, stop_at])
def test_autograd_and_hooks_are_left_as_they_were(read: Any, where: str, enabled: bool) -> None:
    net = Net(fail=where == "behind")
    x = torch.zeros(3, 5) if where == "before" else rows()
    raises = where == "before" or (where == "behind" and read is run_through)
    with torch.set_grad_enabled(enabled):
        if raises:
            with pytest.raises((ValueError, RuntimeError)):
                read(net.middle, lambda: net(x))
        else:
            read(net.middle, lambda: net(x))
        assert torch.is_grad_enabled() is enabled
    assert not net.middle._forward_hooks


def test_a_layer_whose_output_is_no_tensor_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x}

    odd = Odd()
    for read in (run_through, stop_at):
        with pytest.raises(TypeError, match="returned dict, not a tensor"):
            read(odd, lambda: odd(rows()))
        assert torch.is_grad_enabled()
        assert not odd._forward_hooks
