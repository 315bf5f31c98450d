"""Reading the models of a pipeline directory, and their name: nothing fetched, nothing executed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from dap.backbones.json_files import class_of, read_json
from dap.backbones.weights import find_weights
from dap.errors import BackboneError

__all__ = ["class_of", "find_weights", "load_part", "load_vae", "read_json", "weights_digest"]


def weights_digest(settings: Iterable[Mapping[str, Any]], files: Sequence[Path], models: Iterable[Any]) -> str:
    """sha256 over each part's settings and the weight files; over the tensors of models made in memory (no files)."""
    shown = [{key: value for key, value in dict(part).items() if not key.startswith("_")} for part in settings]
    total = sha256(json.dumps(shown, sort_keys=True, default=str).encode())
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    if not files:
        tensors = [item for model in models for item in model.state_dict().items()]
        for key, value in sorted(tensors, key=lambda item: item[0]):
            total.update(key.encode() + value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def load_part(kind: Any, directory: Path, part: str) -> Any:
    """One model of a pipeline directory in float32, from the files that `find_weights` finds, nothing fetched."""
    where = directory / part if part else directory
    if not (where / "config.json").is_file():
        raise BackboneError(f"{where} has no config.json; a diffusers pipeline directory has one in {part or 'it'}/")
    weights = find_weights(where)
    try:
        model, info = kind.from_pretrained(
            str(directory),
            subfolder=part or None,
            local_files_only=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            **weights.options,
        )
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot load {where}: {first}; the checkpoint may be damaged, fetch or train it again"
        ) from error
    wrong = [
        *info.get("missing_keys", ()),
        *info.get("unexpected_keys", ()),
        *info.get("mismatched_keys", ()),
    ]
    if wrong:
        raise BackboneError(f"{where}: {len(wrong)} weights missing, unexpected or of another shape, e.g. {wrong[0]}")
    return model


def load_vae(directory: Path) -> tuple[Any, tuple[Path, ...]]:
    """The AutoencoderKL of a VAE's own directory, or of a pipeline's `vae/`, and its weight files."""
    from diffusers import AutoencoderKL

    part = "vae" if (directory / "vae").is_dir() else ""
    where = directory / part
    if not (where / "config.json").is_file():
        lacks = "no config.json" if part else "neither config.json nor vae/"
        raise BackboneError(f"{where} has {lacks}; name a VAE's directory, or its pipeline's: --vae DIR")
    kind = class_of(read_json(where / "config.json"))
    if kind not in (None, "AutoencoderKL"):
        raise BackboneError(f"{where} holds a {kind}, not an AutoencoderKL; name the VAE's directory: --vae DIR")
    return load_part(AutoencoderKL, directory, part), find_weights(where).files
