"""Which files hold a part's weights: whole or in shards, safetensors or pickles, in full precision or as fp16."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.backbones.json_files import read_json
from dap.errors import BackboneError

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"


@dataclass(frozen=True)
class Weights:
    """The files of one part's weights, and what `from_pretrained` must be told to take these and no others."""

    files: tuple[Path, ...]
    options: dict[str, Any]


def find_weights(where: Path, stem: str = DIFFUSERS) -> Weights:
    """What is loaded from a part's folder: full precision before fp16, safetensors before pickles (`weights_only`).

    stem  as diffusers names its files, or transformers

    Raises: BackboneError that names the file, or the shard, that is missing and how to get it.
    """
    for variant in (None, "fp16"):
        for suffix in ("safetensors", "bin"):
            name = f"pytorch_{stem}" if (stem, suffix) == (TRANSFORMERS, "bin") else stem
            options = {"variant": variant, "use_safetensors": suffix == "safetensors"}
            of_variant = f".{variant}" if variant else ""
            index, whole = where / f"{name}.{suffix}.index{of_variant}.json", where / f"{name}{of_variant}.{suffix}"
            # where both are there, diffusers reads the shards and transformers the whole
            if index.is_file() and not (stem == TRANSFORMERS and whole.is_file()):
                return Weights(_shards(index), options)
            if whole.is_file():
                return Weights((whole,), options)
    raise BackboneError(_missing(where, f"{stem}.safetensors"))


def _shards(index: Path) -> tuple[Path, ...]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise BackboneError(f"{index} names no files (weight_map); the checkpoint is damaged, fetch it again")
    shards = tuple(index.parent / Path(str(name)).name for name in sorted({str(name) for name in named.values()}))
    for shard in shards:
        if not shard.is_file():
            raise BackboneError(_missing(index.parent, shard.name))
    return shards


def _missing(where: Path, name: str) -> str:
    found = ", ".join(sorted(path.name for path in where.iterdir())[:6]) or "nothing"
    return (
        f"cannot load {where}: {name} is missing; copy it there (found {found}), or fetch the pipeline again: "
        "hf download OWNER/NAME --local-dir DIR"
    )
