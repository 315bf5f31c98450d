"""Where a pipeline lies: in the package, in a directory, or in the hub's cache."""

from __future__ import annotations

import os
from pathlib import Path

from dap.errors import BackboneError, unknown

EMBEDDED = {"digits": Path(__file__).parent / "assets" / "digits"}
# what is fetched from the hub: settings, words and weights, no single-file copies
SNAPSHOT = ("*.json", "*/merges.txt", "*diffusion_pytorch_model*.safetensors", "text_encoder/model*.safetensors")
UNWANTED = ("safety_checker/*", "feature_extractor/*", "*.non_ema.*")
HALF = ("*.fp16.*", "*.fp16-*")
# one after the other for the parts of a repository that lack those: pickles (read under `weights_only`), then fp16
FURTHER = (
    ("diffusion_pytorch_model*.bin", "pytorch_model*.bin"),
    ("diffusion_pytorch_model*.fp16*.safetensors", "model*.fp16*.safetensors"),
    ("diffusion_pytorch_model*.fp16*.bin", "pytorch_model*.fp16*.bin"),
)


def directory_of(name: str) -> Path:
    """The pipeline on disk: a directory as it stands, or a hub id's snapshot: no code, pickles only if need be."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / f).is_file() for f in ("model_index.json", "config.json")):
            if (path / "training" / "config.json").is_file():
                raise BackboneError(f"{name} is a training that has not finished: type its `dap train` again to go on")
            found = ", ".join(sorted(os.listdir(path))[:6]) or "nothing"
            raise BackboneError(
                f"{name} is not a diffusers pipeline: no model_index.json; found {found}; give a pipeline's directory, "
                "or a hub id like facebook/DiT-XL-2-256"
            )
        return path
    if path.is_file() and path.suffix == ".safetensors":
        raise BackboneError(f"{name} is a single file of weights; give a diffusers directory, or an original DiT .pt")
    local = path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")) or path.parent.is_dir()
    if local:
        beside = (str(index.parent) for index in path.parent.glob("*/model_index.json"))
        raise BackboneError(
            unknown("backbone", name, [*EMBEDDED, *beside]) + "; or a pipeline directory, or a hub id like owner/name"
        )
    return _snapshot(name)


def _snapshot(name: str) -> Path:
    from huggingface_hub import constants

    try:
        return _fetched(name)
    except Exception as error:
        elsewhere = f"run `hf download {name} --local-dir DIR` where there is a network and give that directory"
        if constants.HF_HUB_OFFLINE:
            raise BackboneError(
                f"cannot fetch {name!r} from the hub: HF_HUB_OFFLINE is set and it is not in the cache; unset it, or "
                + elsewhere
            ) from None
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise BackboneError(f"cannot fetch {name!r} from the hub ({reason}); check the name, or {elsewhere}") from error


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    ignored = [*UNWANTED, *HALF, "*.bin.index.json"]
    directory = Path(snapshot_download(name, allow_patterns=list(SNAPSHOT), ignore_patterns=ignored))
    for patterns in FURTHER:
        parts = {path.parent for path in directory.rglob("config.json")}
        bare = sorted(p for p in parts if not any(f.suffix in (".safetensors", ".bin") for f in p.iterdir()))
        if not bare:
            break
        wanted = [(part.relative_to(directory) / pattern).as_posix() for part in bare for pattern in patterns]
        ignored = [*UNWANTED] if "fp16" in patterns[0] else [*UNWANTED, *HALF]
        directory = Path(snapshot_download(name, allow_patterns=["*.json", *wanted], ignore_patterns=ignored))
    return directory
