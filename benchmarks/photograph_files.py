"""Files of `photographs.py`: class folders of a source, and a backbone that can be moved in small pieces."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

from dap.data import Source

SHARD = "15MB"


def write_folders(source: Source, folder: Path) -> None:
    """Class folders of PNG files, complete or not there."""
    making = folder.with_name(folder.name + ".part")
    for label, name in enumerate(source.class_names):
        (making / name).mkdir(parents=True, exist_ok=True)
        for i in range(source.counts[label]):
            to_pil_image(source.images(label, [i])[0]).save(making / name / f"{i:05d}.png")
    making.rename(folder)


def write_shards(pipeline: Path, out: Path) -> None:
    """A trained DiT pipeline again, as fp16 in shards under 16 MB, without its training state; whole or not there."""
    from diffusers import DiTTransformer2DModel

    making = out.with_name(out.name + ".part")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(pipeline, making, ignore=shutil.ignore_patterns("training", "transformer"))
    model = DiTTransformer2DModel.from_pretrained(pipeline / "transformer", torch_dtype=torch.float16)
    model.save_pretrained(making / "transformer", max_shard_size=SHARD)
    making.rename(out)
