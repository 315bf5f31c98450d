"""Networks of torchvision and timm by name, freshly initialised: nothing is ever downloaded here.

The smallest side of a network that halves its map five times is 64 px: its last stage then works on maps of
2x2. At 32 px they are 1x1, where eight of the nine weights of every 3x3 kernel see only padding, and a batch
norm has one value a channel for each image.

Swin cuts its first map, of patches of 4 px, into windows of 7 (V2: 8) patches: sides are multiples of 28
(V2: 32), so that no window is filled up with padding, and at least two of them, so that there is a border for the
shifted windows to cross. Vision transformers take whole patches, at least 4x4 of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dap.errors import ConfigError, unknown
from dap.evaluation.networks.architecture import Architecture

LIBRARIES = ("torchvision", "timm")
SMALLEST = 64
_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")


def torchvision_architecture(name: str) -> Architecture:
    """A classification network of torchvision. Raises: ConfigError for an unknown name, with the nearest."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(unknown("torchvision network", name, known))
    build = partial(_checked, f"torchvision:{name}", partial(_torchvision, name))
    if name.startswith("swin"):
        multiple = 32 if "_v2_" in name else 28
        return Architecture(build, 2 * multiple, multiple)
    if name.startswith("vit"):
        patch = int(name.rpartition("_")[2])
        return Architecture(build, 4 * patch, patch)
    if name == "maxvit_t":
        return Architecture(build, 224, 224)  # windows of 7 patches on the last map too
    return Architecture(build, {"inception_v3": 128}.get(name, SMALLEST))


def timm_architecture(name: str) -> Architecture:
    """Any network of timm; those of a fixed input size get their images brought to it.

    Raises: ConfigError for an unknown name, with the nearest.
    """
    import timm

    known = timm.list_models()
    # timm's own `hf-hub:` and `local-dir:` prefixes would take a configuration from elsewhere
    if not _TIMM_NAME.fullmatch(name) or not timm.is_model(name):
        raise ConfigError(unknown("timm network", name, known))
    try:
        given = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ConfigError(f"timm has no {name!r} ({error}); leave out what follows the dot") from None
    build = partial(_checked, f"timm:{name}", partial(_timm, name))
    if given is None:
        return Architecture(build, SMALLEST)
    if given.fixed_input_size:
        return Architecture(build, given.input_size[-1], only=given.input_size[-1])
    return Architecture(build, given.min_input_size[-1] if given.min_input_size else SMALLEST)


def _torchvision(name: str, classes: int, channels: int, size: int) -> nn.Module:
    from torchvision.models import get_model

    if channels != 3:
        raise ValueError(f"takes 3 channels, not {channels}")
    options: dict[str, Any] = {}
    if name.startswith("vit"):
        options = {"image_size": size}
    elif name == "maxvit_t":
        options = {"input_size": (size, size)}
    elif name in ("inception_v3", "googlenet"):
        options = {"aux_logits": False, "init_weights": True}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **options)
    return network


def _timm(name: str, classes: int, channels: int, size: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    return network


def _checked(
    name: str, build: Callable[[int, int, int], nn.Module], classes: int, channels: int, size: int
) -> nn.Module:
    """The network, after one image has gone through it. Raises: ConfigError where that gives no logits."""
    try:
        network = build(classes, channels, size)
        with torch.no_grad():
            out = network.eval()(torch.zeros(1, channels, size, size))
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise ConfigError(
            f"network {name!r} cannot be built for {classes} classes and images of {size} px ({reason}); use another"
        ) from error
    shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if shape != [1, classes]:
        raise ConfigError(f"network {name!r} gives {shape} where logits [1, {classes}] are needed; use a classifier")
    return network.train()
