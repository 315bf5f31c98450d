"""Pretrained diffusion models behind one contract: `open_backbone`."""

from __future__ import annotations

import os
from pathlib import Path

from dap.backbones.base import Backbone, default_micro_batch
from dap.errors import BackboneError, ConfigError, unknown

__all__ = ["Backbone", "default_micro_batch", "directory_of", "open_backbone", "pick_device"]

SNAPSHOT = ("*.json", "*/config.json", "*/scheduler_config.json", "*.safetensors", "*.safetensors.index.json")
PICKLES = ("*/diffusion_pytorch_model*.bin", "*/diffusion_pytorch_model*.bin.index.json")
EMBEDDED = {"digits": Path(__file__).parent / "assets" / "digits"}


def open_backbone(name: str, *, vae: str | None = None, device: str = "auto") -> Backbone:
    """The backbone called `name`: `digits`, a diffusers pipeline directory, or a hub id such as facebook/DiT-XL-2-256.

    Raises: BackboneError when it is not there, not a pipeline, or of a class that dap does not know.
    """
    from dap.backbones.dit import load_dit, read_json

    directory = EMBEDDED.get(name) or directory_of(name)
    kind = read_json(directory / "model_index.json").get("_class_name")
    if kind != "DiTPipeline":
        raise BackboneError(f"{directory} is a {kind}; dap knows DiTPipeline")
    return load_dit(directory, name=name, vae=None if vae is None else directory_of(vae), device=pick_device(device))


def pick_device(device: str) -> str:
    """`auto` is the first CUDA GPU, then Apple's, then the CPU; anything else must be there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ConfigError(f"device {device!r} cannot be used here ({reason}); try --device auto or cpu") from None
    return device


def directory_of(name: str) -> Path:
    """The pipeline on disk: a directory as it stands, or a hub id's snapshot (weights as safetensors, no code)."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / f).is_file() for f in ("model_index.json", "config.json")):
            found = ", ".join(sorted(os.listdir(path))[:6]) or "nothing"
            raise BackboneError(f"{name} is not a diffusers pipeline: no model_index.json; found {found}")
        return path
    local = path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")) or path.parent.is_dir()
    if local:
        known = (
            [*EMBEDDED, *(f"{p}" for p in path.parent.glob("*") if p.is_dir())]
            if path.parent.is_dir()
            else list(EMBEDDED)
        )
        raise BackboneError(unknown("backbone", name, known) + "; or a pipeline directory, or a hub id like owner/name")
    return _snapshot(name)


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(name, allow_patterns=list(SNAPSHOT)))
        if not list(directory.rglob("*.safetensors")):  # an old repository: a pickle, read with weights_only
            directory = Path(snapshot_download(name, allow_patterns=[*SNAPSHOT, *PICKLES]))
        return directory
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot fetch {name!r} from the hub ({reason}); check the name, or give a directory"
        ) from error
