"""Classifiers as feature extractors: what their last layer is given. Nothing is downloaded here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dap.backbones import pick_device
from dap.errors import ConfigError, unknown


def network_features(kind: str, name: str, device: str) -> Callable[[Tensor], Tensor]:
    """uint8 [B, c, h, w] -> [B, F], by `torchvision:name` or `timm:name`, prepared as the network was trained.

    Raises: ConfigError for an unknown name, and for weights that are not on this machine (with how to fetch them).
    """
    network, prepare = _torchvision(name) if kind == "torchvision" else _timm(name)
    where = pick_device(device)
    network = network.to(where).eval().requires_grad_(False)
    penultimate = before_last_layer(network)

    def features(images: Tensor) -> Tensor:
        return penultimate(prepare(images.expand(-1, 3, -1, -1).to(where)))

    return features


def before_last_layer(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The input [B, F] of the network's last linear layer. Raises: ConfigError where it has none."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(f"{type(network).__name__} ends in no linear layer; choose another --features network")
    seen: list[Tensor] = []
    layers[-1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        seen.clear()
        network(x)
        return seen.pop().flatten(1)

    return features


def _torchvision(name: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(unknown("torchvision network", name, known))
    weights = models.get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]
    if not path.is_file():
        fetch = f"python -c \"import torchvision; torchvision.models.get_model('{name}', weights='DEFAULT')\""
        raise ConfigError(f"the weights of torchvision:{name} are not at {path}; fetch them once: {fetch}")
    network = models.get_model(name, weights=None)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network, weights.transforms()


def _timm(name: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    import timm
    from huggingface_hub import try_to_load_from_cache
    from safetensors.torch import load_file

    if name.partition(".")[0] not in timm.list_models():
        raise ConfigError(unknown("timm network", name, timm.list_models()))
    try:
        given = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ConfigError(f"timm has no {name!r} ({error}); leave out what follows the dot") from None
    if given is None or not given.hf_hub_id:
        raise ConfigError(f"timm has no weights of {name!r}; choose another --features network")
    path = try_to_load_from_cache(given.hf_hub_id, "model.safetensors")
    if not isinstance(path, str):
        raise ConfigError(
            f"the weights of timm:{name} are not on this machine; fetch them once where there is a network: "
            f"hf download {given.hf_hub_id} model.safetensors"
        )
    network: Any = timm.create_model(name, pretrained=False, num_classes=given.num_classes)
    network.load_state_dict(load_file(path))
    shape = network.pretrained_cfg
    mean, sd = (torch.tensor(shape[key]).view(3, 1, 1) for key in ("mean", "std"))
    size = tuple(shape["input_size"][1:])

    def prepare(images: Tensor) -> Tensor:
        x = nn.functional.interpolate(images.float() / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (x - mean.to(x)) / sd.to(x)

    return network, prepare
