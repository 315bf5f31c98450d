"""Networks by name: what distillation is judged with, and anything that torchvision or timm have.

    convnet-3, -4, -6, resnetap-10, resnet-18, ...      own.py: instance norm, stems by image size
    resnet-101, mobilenet-v2, efficientnet-b0, swin-t, swin-v2-t    torchvision's, batch or layer norm
    torchvision:NAME, timm:NAME                          foreign.py

`resnet-18` (instance norm) and `torchvision:resnet18` (batch norm) are different networks. A dash may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from torch import nn

from dap.errors import ConfigError, unknown
from dap.evaluation.networks.architecture import Architecture, Resize
from dap.evaluation.networks.foreign import LIBRARIES, timm_architecture, torchvision_architecture
from dap.evaluation.networks.own import OWN

BORROWED = {
    "resnet-101": "torchvision:resnet101",
    "mobilenet-v2": "torchvision:mobilenet_v2",
    "efficientnet-b0": "torchvision:efficientnet_b0",
    "swin-t": "torchvision:swin_t",
    "swin-v2-t": "torchvision:swin_v2_t",
}
NETWORKS = (*OWN, *BORROWED)


def build_network(name: str, classes: int, *, channels: int = 3, size: int) -> nn.Module:
    """A freshly initialised network for images [B, channels, size, size], giving logits [B, classes].

    Initial weights come from torch's global generator: seed it (or fork it) around this call.

    Raises: ConfigError for an unknown name, with the nearest, for a family without its depth, and for a network
    of a library that gives no such logits.
    """
    side = network_size(name, size)
    network = architecture(name).build(classes, channels, side)
    return network if side == size else nn.Sequential(Resize(side), network)


def network_size(name: str, size: int) -> int:
    """The side in pixels of what the network works on, for images of `size`: where that is too small for it (or
    no multiple of its patches, or not the one size that it has), images are resized inside the network.

    Raises: ConfigError as `build_network` does.
    """
    return architecture(name).side(size)


def network_name(name: str) -> str:
    """The one spelling of a network's name: `resnet18` and `ResNet-18` are `resnet-18`.

    Raises: ConfigError for an unknown name, with the nearest, and for a family without its depth.
    """
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        _foreign(library, rest)
        return name
    spelt = {_plain(known): known for known in NETWORKS}
    if _plain(name) in spelt:
        return spelt[_plain(name)]
    depths = [known for known in NETWORKS if name and known.startswith(f"{name}-")]
    if depths:
        raise ConfigError(f"network {name!r} needs a depth; use {' or '.join(depths)}")
    raise ConfigError(unknown("network", name, NETWORKS) + "; or torchvision:NAME, timm:NAME")


def architecture(name: str) -> Architecture:
    """What a name stands for. Raises: ConfigError as `network_name` does."""
    name = network_name(name)
    if name in OWN:
        return OWN[name]
    library, _, rest = BORROWED.get(name, name).partition(":")
    return _foreign(library, rest)


def check_networks(names: Iterable[str], classes: int, size: int) -> None:
    """Builds those of torchvision and timm once, so that one that cannot be built is found before any training.

    Raises: ConfigError as `build_network` does.
    """
    for name in names:
        if network_name(name) not in OWN:
            with torch.random.fork_rng(devices=[]):
                build_network(name, classes, size=size)


def count_parameters(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a batch of one image may have no variance for it to divide by."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _plain(name: str) -> str:
    return name.lower().replace("-", "")


@cache
def _foreign(library: str, name: str) -> Architecture:
    return (torchvision_architecture if library == "torchvision" else timm_architecture)(name)
