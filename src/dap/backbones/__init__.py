"""Pretrained diffusion models behind one contract: `open_backbone`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dap.backbones.base import Backbone, default_micro_batch
from dap.backbones.computing import Computing
from dap.backbones.parts import read_json
from dap.errors import BackboneError, ConfigError, unknown

__all__ = ["Backbone", "default_micro_batch", "directory_of", "open_backbone", "pick_device"]

SNAPSHOT = ("*.json", "*/config.json", "*/scheduler_config.json", "*.safetensors", "*.safetensors.index.json")
PICKLES = ("*/diffusion_pytorch_model*.bin", "*/diffusion_pytorch_model*.bin.index.json")
EMBEDDED = {"digits": Path(__file__).parent / "assets" / "digits"}


def open_backbone(
    name: str,
    *,
    arch: str | None = None,
    vae: str | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    compile: bool = False,
    vae_tiling: bool = False,
) -> Backbone:
    """The backbone called `name`: `digits`, a diffusers pipeline directory, a hub id, or an original DiT `.pt`.

    arch        of a `.pt`: DiT-XL/2, or any of DiT-{S,B,L,XL}/{2,4,8}
    vae         directory or hub id of a VAE for a pipeline that has none
    dtype       fp32, fp16 or bf16 of the diffusion model; eps comes as float32
    compile     the model's blocks by torch.compile
    vae_tiling  decode large images in overlapping tiles: less memory, other pixels

    Raises: BackboneError when it is not there, not a pipeline, or of a class that dap does not know; ConfigError for a
    device, precision or compiler that does not work here.
    """
    computing = Computing(device=pick_device(device), dtype=dtype, compile=compile, vae_tiling=vae_tiling).checked()
    vae_at = None if vae is None else directory_of(vae)
    if Path(name).suffix in CHECKPOINTS:
        from dap.backbones.original_dit import load_original

        return load_original(Path(name).expanduser(), arch, vae=vae_at, computing=computing)
    if arch is not None:
        raise ConfigError(f"--arch {arch} belongs to an original DiT checkpoint (.pt); {name} says itself what it is")
    directory = EMBEDDED.get(name) or directory_of(name)
    kind = read_json(directory / "model_index.json").get("_class_name")
    if kind not in PIPELINES:
        raise BackboneError(f"{directory} is a {kind or 'pipeline of no class'}; dap knows {', '.join(PIPELINES)}")
    return PIPELINES[kind](directory, name, vae_at, computing)


def _open_dit(directory: Path, name: str, vae: Path | None, computing: Computing) -> Backbone:
    from dap.backbones.dit import load_dit

    return load_dit(directory, name=name, vae=vae, computing=computing)


# the `_class_name` of model_index.json -> what opens (directory, name, VAE's directory, how to compute)
PIPELINES: dict[str, Callable[[Path, str, Path | None, Computing], Backbone]] = {"DiTPipeline": _open_dit}
CHECKPOINTS = (".pt", ".pth", ".ckpt")


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
    from huggingface_hub import constants, snapshot_download

    try:
        directory = Path(snapshot_download(name, allow_patterns=list(SNAPSHOT)))
        if not list(directory.rglob("*.safetensors")):  # an old repository: a pickle, read with weights_only
            directory = Path(snapshot_download(name, allow_patterns=[*SNAPSHOT, *PICKLES]))
        return directory
    except Exception as error:
        if constants.HF_HUB_OFFLINE:
            raise BackboneError(
                f"cannot fetch {name!r} from the hub: HF_HUB_OFFLINE is set and it is not in the cache; unset it, or "
                f"run `hf download {name} --local-dir DIR` where there is a network and give that directory"
            ) from None
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot fetch {name!r} from the hub ({reason}); check the name, or give a directory"
        ) from error
