"""Reading one layer's output out of a forward pass, with a graph as far as that layer or no further computation.

The one trick of the guidance's cost: the features come out of the same forward pass that gives eps, and everything
behind the tap runs as if under `no_grad`, so that neither memory nor a backward pass is spent there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _TapReachedError(Exception):
    """Leaves a forward pass at the tap; never seen outside this file."""


def _tensor_of(output: Any) -> Tensor:
    """Some layers (U-Net down blocks) return (hidden states, skips)."""
    first = output[0] if isinstance(output, tuple) else output
    if not isinstance(first, Tensor):
        raise TypeError(f"a tapped layer returned {type(first).__name__}, not a tensor")
    return first


def run_through(layer: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """(output of `forward` without graph, features at `layer` with theirs).

    Autograd is switched off behind the layer for the rest of the pass and restored afterwards, also when it raises.
    `no_grad` and not `inference_mode`: the values go on into tensors that need gradients later.
    """
    caught: list[Tensor] = []
    before = torch.is_grad_enabled()

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        caught.append(_tensor_of(output))
        torch.set_grad_enabled(False)
        detach = (
            tuple(o.detach() if isinstance(o, Tensor) else o for o in output) if isinstance(output, tuple) else None
        )
        return detach if detach is not None else output.detach()

    handle = layer.register_forward_hook(hook)
    try:
        out = forward().detach()
    finally:
        torch.set_grad_enabled(before)
        handle.remove()
    return out, caught[0]


def stop_at(layer: nn.Module, forward: Callable[[], Any]) -> Tensor:
    """The features at `layer`, without gradient; `forward` is left as soon as they are known."""
    caught: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        caught.append(_tensor_of(output))
        raise _TapReachedError

    handle = layer.register_forward_hook(hook)
    try:
        with torch.no_grad():
            forward()
    except _TapReachedError:
        pass
    finally:
        handle.remove()
    return caught[0]
