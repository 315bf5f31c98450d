"""Trained weights into networks: a directory of `dap teacher`, pretrained ImageNet weights by name, or a file.

T/teacher.json         sealed: network, size, classes, normalisation, accuracy, sha256 of the weights, versions
T/teacher.safetensors  the weights

Only safetensors and pickles under `weights_only` are read; nothing that is read is run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dap.data.imagenet import imagenet_wnids
from dap.disk import changed
from dap.errors import ConfigError, DataError, StoreError
from dap.evaluation.networks import architecture, build_network, network_name
from dap.evaluation.networks.foreign import LIBRARIES
from dap.evaluation.protocol import Normalisation
from dap.seal import read_sealed

RECORD, WEIGHTS = "teacher.json", "teacher.safetensors"
CLASSES_REMEDY = "say which class each output is: --teacher-classes FILE, one name a line in the teacher's order"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A trained network as it was found.

    network      images [B, 3, size, size] under `normalise` -> logits, one for each of `class_names`
    origin       what a record says about it, fit for JSON
    """

    network: nn.Module
    class_names: tuple[str, ...]
    size: int
    normalise: Normalisation
    origin: dict[str, Any]


def read_teacher(path: Path) -> Pretrained:
    """What `dap teacher` wrote. Raises: StoreError when it is damaged or unfinished."""
    remedy = f"make it anew with dap teacher DATA --out {path}"
    if not (path / RECORD).exists():
        state = "is not finished" if (path / "training").is_dir() else "is no teacher"
        raise StoreError(f"{path} {state} (no {RECORD}): make one with dap teacher DATA --network resnet-18 --out DIR")
    record = read_sealed(path / RECORD, remedy)
    if what := changed(path / WEIGHTS, record["weights"]):
        raise StoreError(f"{path / WEIGHTS} {what}: {remedy}")
    names = tuple(record["class_names"])
    network = build_network(record["network"], len(names), size=record["size"])
    fill(network, load_file(path / WEIGHTS), str(path), record["network"])
    mean, sd = (tuple(row) for row in record["normalise"])
    kept = ("network", "accuracy", "protocol", "weights")
    return Pretrained(
        network=network,
        class_names=names,
        size=record["size"],
        normalise=(mean, sd),
        origin={key: record[key] for key in kept},
    )


def fetch_pretrained(name: str) -> Pretrained:
    """ImageNet-1K weights of `torchvision:NAME` (its first version, as the papers use) or `timm:NAME`.

    Raises: ConfigError for names without such weights, or when they are neither cached nor to be had.
    """
    library, _, rest = name.partition(":")
    network_name(name)
    return _torchvision(name, rest) if library == "torchvision" else _timm(name, rest)


def read_file(path: Path, network: str | None, names: tuple[str, ...] | None, size: int, normalise: Any) -> Pretrained:
    """Bare weights: safetensors or a pickled state dict. `names` is needed unless they have ImageNet's 1,000 outputs.

    Raises: ConfigError when the network or the classes were not said; DataError for a file that is damaged, holds
    more than weights, or is of another network.
    """
    if network is None:
        raise ConfigError(
            f"{path} holds weights alone: say of which network, e.g. --teacher-network torchvision:resnet18"
        )
    weights = _state_dict(path)
    outputs = len(list(weights.values())[-1])
    if names is None:
        if outputs != 1000:
            raise ConfigError(f"{path} has {outputs} outputs; {CLASSES_REMEDY}")
        names = imagenet_wnids()
    if len(names) != outputs:
        raise DataError(f"{path} has {outputs} outputs, --teacher-classes names {len(names)}; name each of them once")
    chosen = architecture(network)
    side = chosen.side(size)
    module = chosen.build(outputs, 3, side)
    fill(module, weights, str(path), network)
    origin = {"network": network_name(network), "weights": path.name}
    return Pretrained(network=module, class_names=names, size=side, normalise=normalise, origin=origin)


def read_classes(path: str) -> tuple[str, ...]:
    """The class names of a text file, one a line. Raises: DataError."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the classes {path!r}: {getattr(error, 'strerror', None) or error}") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path!r} names {twice[0]!r} twice; one line for each output of the teacher")
    return names


def fill(network: nn.Module, weights: Mapping[str, Tensor], source: str, name: str) -> None:
    """Loads all weights into the network. Raises: DataError, naming the first that does not fit."""
    wanted = network.state_dict()
    # counters of batches, which old files lack, do nothing in evaluation
    lacking = [key for key in wanted if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in wanted]
    others = [key for key in wanted if key in weights and weights[key].shape != wanted[key].shape]
    if lacking or extra or others:
        parts = [f"lacks {len(lacking)} weights, e.g. {lacking[0]}"] if lacking else []
        parts += [f"has {len(extra)} unknown ones, e.g. {extra[0]}"] if extra else []
        shapes = [f"{list(weights[key].shape)} instead of {list(wanted[key].shape)}" for key in others[:1]]
        parts += [f"has {len(others)} of another shape, e.g. {others[0]} {shapes[0]}"] if others else []
        raise DataError(f"{source} {', '.join(parts)}: it does not fit {name}; name the network it was trained as")
    network.load_state_dict(weights, strict=False)


def _torchvision(name: str, rest: str) -> Pretrained:
    from torchvision.models import get_model_weights

    versions = get_model_weights(rest).__members__
    if not versions:
        raise ConfigError(f"torchvision has no pretrained weights of {rest!r}; use another, or a file")
    chosen = versions.get("IMAGENET1K_V1") or next(iter(versions.values()))
    if len(chosen.meta["categories"]) != 1000:
        raise ConfigError(f"the weights of {name!r} are not of ImageNet-1K; use another")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
    if not cached.exists() and _offline():
        raise _not_there(name, f"fetch {chosen.url} to {cached.parent}")
    try:
        with redirect_stdout(sys.stderr):  # torch says there what it downloads; stdout is for results
            weights = torch.hub.load_state_dict_from_url(
                chosen.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except OSError as error:
        raise _not_there(name, f"fetch {chosen.url} to {cached.parent}", error) from None
    preset = chosen.transforms()
    size = preset.crop_size[0]
    network = architecture(name).build(1000, 3, size)
    fill(network, weights, chosen.url, name)
    origin = {"network": name, "weights": f"{type(chosen).__name__}.{chosen.name}"}
    normalise = (tuple(preset.mean), tuple(preset.std))
    return Pretrained(network=network, class_names=imagenet_wnids(), size=size, normalise=normalise, origin=origin)


def _timm(name: str, rest: str) -> Pretrained:
    import timm
    from huggingface_hub import hf_hub_download

    given = timm.models.get_pretrained_cfg(rest)
    if given is None or not given.hf_hub_id or given.num_classes != 1000:
        raise ConfigError(f"timm has no ImageNet-1K weights of {rest!r} as safetensors; use another, or a file")
    try:
        path = hf_hub_download(given.hf_hub_id, "model.safetensors")
    except Exception as error:
        raise _not_there(name, f"run `hf download {given.hf_hub_id} model.safetensors`", error) from None
    size = given.input_size[-1]
    network = architecture(name).build(1000, 3, size)
    fill(network, load_file(path), given.hf_hub_id, name)
    return Pretrained(
        network=network,
        class_names=imagenet_wnids(),
        size=size,
        normalise=(tuple(given.mean), tuple(given.std)),
        origin={"network": name, "weights": given.hf_hub_id},
    )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE") == "1"


def _not_there(name: str, remedy: str, error: Exception | None = None) -> ConfigError:
    why = "HF_HUB_OFFLINE is set" if _offline() else str(error).partition("\n")[0][:120]
    return ConfigError(f"the weights of {name!r} are not in the cache ({why}): {remedy} where there is a network")


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file, without the prefixes that wrappers leave."""
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise DataError(
            f"{path} holds more than weights and is not opened: save the state dict alone, or as safetensors"
        ) from None
    except Exception as error:  # bytes that are no pickle make the unpickler fail in any way
        raise DataError(f"cannot read {path}: {str(error).partition(chr(10))[0][:120]}") from None
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"{path} is no state dict; save network.state_dict()")
    out = {str(key): value for key, value in found.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in out):
            out = {key.removeprefix(prefix): value for key, value in out.items()}
    return out


def is_pretrained_name(spec: str) -> bool:
    """Whether a teacher is `torchvision:...` or `timm:...`."""
    return spec.partition(":")[0] in LIBRARIES and ":" in spec
