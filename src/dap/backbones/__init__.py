"""Pretrained diffusion models behind one contract: `open_backbone`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dap.backbones.base import Backbone, default_micro_batch
from dap.backbones.computing import Computing
from dap.backbones.json_files import class_of, read_json
from dap.backbones.location import EMBEDDED, directory_of
from dap.backbones.prompts import Prompts, read_prompts
from dap.errors import BackboneError, ConfigError

__all__ = [
    "CHECKPOINTS",
    "EMBEDDED",
    "Backbone",
    "Prompts",
    "default_micro_batch",
    "directory_of",
    "open_backbone",
    "pick_device",
    "pipeline_class",
    "read_prompts",
]


def open_backbone(
    name: str,
    *,
    arch: str | None = None,
    vae: str | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    compile: bool = False,
    vae_tiling: bool = False,
    prompts: Prompts | None = None,
) -> Backbone:
    """The backbone called `name`: `digits`, a diffusers pipeline directory, a hub id, or an original DiT `.pt`.

    arch        of a `.pt`: DiT-XL/2, or any of DiT-{S,B,L,XL}/{2,4,8}
    vae         directory or hub id of a VAE for a pipeline that has none
    dtype       fp32, fp16 or bf16 of the diffusion model; eps comes as float32
    compile     the model's blocks by torch.compile
    vae_tiling  decode large images in overlapping tiles: less memory, other pixels
    prompts     what a text-to-image model is told for each class of the dataset; other models have no use for it

    Raises: BackboneError when it is not there, not a pipeline, or of a class that dap does not know; ConfigError for a
    device, precision or compiler that does not work here, and for chosen prompts that the backbone cannot use.
    """
    computing = Computing(device=pick_device(device), dtype=dtype, compile=compile, vae_tiling=vae_tiling).checked()
    vae_at = None if vae is None else directory_of(vae)
    if Path(name).suffix in CHECKPOINTS:
        from dap.backbones.original_dit import load_original

        _check_no_prompts(name, prompts)
        return load_original(Path(name).expanduser(), arch, vae=vae_at, computing=computing)
    if arch is not None:
        raise ConfigError(f"--arch {arch} belongs to an original DiT checkpoint (.pt); {name} says itself what it is")
    directory = EMBEDDED.get(name) or directory_of(name)
    return PIPELINES[pipeline_class(directory)](directory, name, vae_at, computing, prompts)


def pipeline_class(directory: Path) -> str:
    """What a pipeline directory says it is, one of `PIPELINES`. Raises: BackboneError for anything else."""
    index, config = directory / "model_index.json", directory / "config.json"
    if not index.is_file() and config.is_file():
        parent = directory.parent if (directory.parent / "model_index.json").is_file() else "a pipeline's directory"
        more = ", and this one by --vae" if class_of(read_json(config)) == "AutoencoderKL" else ""
        raise BackboneError(
            f"{directory} holds a {class_of(read_json(config)) or 'model'}, one part of a pipeline; give its parent: "
            f"--backbone {parent}{more}"
        )
    kind = class_of(read_json(index))
    if kind not in PIPELINES:
        known = " and ".join(PIPELINES)
        raise BackboneError(
            f"{directory} is a {kind or 'pipeline of no class'}; dap knows {known} (1.x, 2.x): give one of these, e.g. "
            "--backbone facebook/DiT-XL-2-256"
        )
    return kind


def _open_dit(directory: Path, name: str, vae: Path | None, computing: Computing, prompts: Prompts | None) -> Backbone:
    from dap.backbones.dit import load_dit

    _check_no_prompts(name, prompts)
    return load_dit(directory, name=name, vae=vae, computing=computing)


def _open_stable_diffusion(
    directory: Path, name: str, vae: Path | None, computing: Computing, prompts: Prompts | None
) -> Backbone:
    from dap.backbones.stable_diffusion import open_stable_diffusion

    return open_stable_diffusion(directory, prompts, name=name, vae=vae, computing=computing)


def _check_no_prompts(name: str, prompts: Prompts | None) -> None:
    if prompts is not None and prompts.chosen:
        raise ConfigError(
            f"{name} is told classes, not text; leave out backbone.prompt, backbone.prompts and "
            "backbone.negative_prompt"
        )


# the `_class_name` of model_index.json -> what opens (directory, name, VAE's directory, how to compute, prompts)
PIPELINES: dict[str, Callable[[Path, str, Path | None, Computing, Prompts | None], Backbone]] = {
    "DiTPipeline": _open_dit,
    "StableDiffusionPipeline": _open_stable_diffusion,
}
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
