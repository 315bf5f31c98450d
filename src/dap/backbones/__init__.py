"""Pretrained diffusion models behind one contract: `open_backbone`."""

from __future__ import annotations

import os
from pathlib import Path

from dap.backbones.base import Backbone, default_micro_batch
from dap.backbones.prompts import Prompts, read_prompts
from dap.errors import BackboneError, ConfigError, unknown

__all__ = [
    "Backbone",
    "Prompts",
    "default_micro_batch",
    "directory_of",
    "open_backbone",
    "pick_device",
    "read_prompts",
]

EMBEDDED = {"digits": Path(__file__).parent / "assets" / "digits"}


def open_backbone(
    name: str, *, vae: str | None = None, device: str = "auto", prompts: Prompts | None = None
) -> Backbone:
    """The backbone called `name`: `digits`, a diffusers pipeline directory, or a hub id such as facebook/DiT-XL-2-256.

    prompts  what a text-to-image model is told for each class of the dataset; other models have no use for it

    Raises: BackboneError when it is not there, not a pipeline, or of a class that dap does not know; ConfigError for
    chosen prompts that the backbone cannot use.
    """
    from dap.backbones.dit import load_dit, read_json

    directory = EMBEDDED.get(name) or directory_of(name)
    kind = read_json(directory / "model_index.json").get("_class_name")
    if kind == "StableDiffusionPipeline":
        from dap.backbones.stable_diffusion import open_stable_diffusion

        other = None if vae is None else directory_of(vae)
        return open_stable_diffusion(directory, prompts, name=name, vae=other, device=pick_device(device))
    if kind != "DiTPipeline":
        raise BackboneError(f"{directory} is a {kind}; dap knows DiTPipeline and StableDiffusionPipeline (1.x, 2.x)")
    if prompts is not None and prompts.chosen:
        raise ConfigError(
            f"{name} is told classes, not text; leave out backbone.prompt, backbone.prompts and "
            "backbone.negative_prompt"
        )
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
    """The pipeline on disk: a directory as it stands, or a hub id's snapshot: no code, pickles only if need be."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / f).is_file() for f in ("model_index.json", "config.json")):
            found = ", ".join(sorted(os.listdir(path))[:6]) or "nothing"
            raise BackboneError(f"{name} is not a diffusers pipeline: no model_index.json; found {found}")
        return path
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = (
            [*EMBEDDED, *(f"{p}" for p in path.parent.glob("*") if p.is_dir())]
            if path.parent.is_dir()
            else list(EMBEDDED)
        )
        raise BackboneError(unknown("backbone", name, known) + "; or a pipeline directory, or a hub id like owner/name")
    return _snapshot(name)


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [
        "model_index.json",
        "dap.json",
        "config.json",
        "*.safetensors",
        "*/config.json",
        "*/scheduler_config.json",
        "*/*.safetensors",
        "tokenizer/*.json",
        "tokenizer/merges.txt",
    ]
    unwanted = ["safety_checker/*", "feature_extractor/*", "*.fp16.safetensors", "*.non_ema.safetensors"]
    try:
        there = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted))
        parts = [path.parent for path in there.glob("*/config.json")]
        bare = [part.name for part in parts if not any(part.glob("*.safetensors"))]
        if bare:  # published as pickles only, which are read under `weights_only`
            snapshot_download(name, allow_patterns=[f"{part}/*model.bin" for part in bare])
        return there
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot fetch {name!r} from the hub ({reason}); check the name, or give a directory"
        ) from error
