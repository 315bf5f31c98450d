"""Reading the parts of a pipeline directory: JSON files and models, nothing fetched, nothing executed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from dap.errors import BackboneError

WEIGHTS = "diffusion_pytorch_model"


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


def load_part(kind: Any, directory: Path, part: str, **options: Any) -> Any:
    """One model of a pipeline directory in float32, safetensors (or a pickle under `weights_only`), nothing fetched.

    options  more for `from_pretrained`, e.g. variant="fp16"
    """
    where = directory / part if part else directory
    if not (where / "config.json").is_file():
        raise BackboneError(f"{where} has no config.json; a diffusers pipeline directory has one in {part or 'it'}/")
    _check_weights(where)
    try:
        model, info = kind.from_pretrained(
            str(directory),
            subfolder=part or None,
            local_files_only=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            **options,
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


def load_vae(directory: Path) -> tuple[Any, list[Path]]:
    """The AutoencoderKL of a VAE's own directory, or of a pipeline's `vae/`, and its weight files."""
    from diffusers import AutoencoderKL

    part = "vae" if (directory / "vae").is_dir() else ""
    where = directory / part
    kind = read_json(where / "config.json").get("_class_name") if (where / "config.json").is_file() else None
    if kind not in (None, "AutoencoderKL"):
        raise BackboneError(f"{where} holds a {kind}, not an AutoencoderKL; name the VAE's directory: --vae DIR")
    return load_part(AutoencoderKL, directory, part), weight_files(where)


def weight_files(where: Path) -> list[Path]:
    """The files that hold a part's weights, sorted."""
    return sorted(path for path in where.iterdir() if path.suffix in (".safetensors", ".bin"))


def _check_weights(where: Path) -> None:
    """Names the file that is missing, one file or a shard of several, and how to get it."""
    missing = [] if weight_files(where) else [f"{WEIGHTS}.safetensors"]
    for index in where.glob("*.index.json"):
        shards = read_json(index).get("weight_map")
        if isinstance(shards, dict):
            missing += sorted({str(name) for name in shards.values() if not (where / str(name)).is_file()})
    if missing:
        raise BackboneError(
            f"cannot load {where}: {missing[0]} is missing; copy it there, or fetch the whole pipeline again: "
            "hf download OWNER/NAME --local-dir DIR"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a pipeline directory."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror}; is its directory a whole pipeline?") from None
    except ValueError:
        raise BackboneError(f"{path} is not valid JSON; the checkpoint is damaged") from None
    if not isinstance(record, dict):
        raise BackboneError(f"{path} does not hold a JSON object; the checkpoint is damaged")
    return record
