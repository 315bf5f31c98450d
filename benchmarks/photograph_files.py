"""Files of `photographs.py`: class folders of a source or of its averages, and a backbone in small pieces."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

from dap.data import Source

SHARD, CENTRES = "15MB", "k-means centres"


def write_folders(source: Source, folder: Path) -> None:
    """Class folders of PNG files, complete or not there."""
    making = folder.with_name(folder.name + ".part")
    for label, name in enumerate(source.class_names):
        (making / name).mkdir(parents=True, exist_ok=True)
        for i in range(source.counts[label]):
            to_pil_image(source.images(label, [i])[0]).save(making / name / f"{i:05d}.png")
    making.rename(folder)


def write_averages(source: Source, kind: str, ipc: int, seed: int, folder: Path) -> None:
    """Class folders of blurred images, complete or not there: the "mean image" or the "median image" of a whole class,
    pixel by pixel, or `ipc` "k-means centres"."""
    from sklearn.cluster import KMeans

    making = folder.with_name(folder.name + ".part")
    for label, name in enumerate(source.class_names):
        images = source.images(label).float()
        if kind != CENTRES:
            made = (images.mean(0) if kind == "mean image" else images.median(0).values)[None]
        else:
            centres = KMeans(ipc, n_init=1, random_state=seed).fit(images.flatten(1).numpy()).cluster_centers_
            made = torch.from_numpy(centres).unflatten(1, images.shape[1:])
        (making / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(made.round().byte()):
            to_pil_image(image).save(making / name / f"{i}.png")
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
