"""Images in, feature rows out: the space in which sets are compared. Every number is recorded with its space.

    tap              a layer of the diffusion backbone at one noise level: what guided the set, so it flatters guidance
    pixels           the pixels themselves, [0, 1]
    torchvision:NAME, timm:NAME     what a classifier's last layer is given; its weights must be on this machine

A tap sees every image under the same noise, so that equal images have equal features, and under the null condition, so
that no label tells the model what it sees.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dap.backbones import Backbone, default_micro_batch, open_backbone, read_prompts
from dap.data import Source
from dap.errors import ConfigError, unknown
from dap.metrics.distances import Rows
from dap.metrics.networks import network_features
from dap.metrics_config import MetricsConfig

IN_MEMORY = 2**28  # bytes of one class's features; more goes to a temporary file


@dataclass(frozen=True, kw_only=True)
class Space:
    """A function from images to feature rows.

    features  uint8 [B, c, size, size] in `mode` -> float32 [B, F]
    record    how it was made, fit for JSON; "name" is what people read
    size      side of the images that it takes, and `mode`, "RGB" or "L"
    rows      images of one call
    """

    features: Callable[[Tensor], Tensor]
    record: dict[str, Any]
    size: int
    mode: str
    rows: int

    def extract(self, source: Source, label: int, told: Callable[[int], None] = lambda n: None) -> Rows:
        """Features [N, F] of a class, read and forwarded `rows` at a time; `told` of how many are done.

        Raises: DataError for an unreadable image, ConfigError for features too large to compare.
        """
        source = source.with_format(size=self.size, mode=self.mode)
        count, out = source.counts[label], None
        for i in range(0, count, self.rows):
            positions = range(i, min(i + self.rows, count))
            part = self.features(source.images(label, positions)).float().cpu().numpy()
            if out is None:
                out = _room(count, part.shape[1])
            out[i : i + len(part)] = part
            told(len(part))
        return out


def _room(count: int, numbers: int) -> Any:
    if 4 * count * numbers <= IN_MEMORY:
        return np.empty((count, numbers), np.float32)
    with tempfile.TemporaryFile() as file:  # the map keeps the file, which has no name, alive
        return np.memmap(file, np.float32, "w+", shape=(count, numbers))


def open_space(config: MetricsConfig, like: Source, backbone: Mapping[str, Any], device: str) -> Space:
    """The space that `[metrics] features` names; `like` gives the images' own size, `backbone` the settings of one.

    backbone  the table `[backbone]` as a distilled set records it; {} when nobody named one

    Raises: ConfigError for an unknown name, weights that are not there, a tap without a backbone.
    """
    kind, _, name = config.features.partition(":")
    if kind == "tap" and not name:
        return tap_space(config, like, backbone, device)
    if kind == "pixels" and not name:
        return pixel_space(like)
    if kind in ("torchvision", "timm") and name:
        size, mode = side_of(like), like.mode
        features = network_features(kind, name, device)
        return Space(features=features, record={"name": config.features}, size=size, mode=mode, rows=32)
    known = ("tap", "pixels", "torchvision:resnet18", "timm:resnet18")
    raise ConfigError(unknown("features", config.features, known))


def pixel_space(like: Source) -> Space:
    """Pixels as they are, in the size of `like`."""
    size = side_of(like)
    record = {"name": "pixels", "size": size, "mode": like.mode}
    return Space(features=lambda x: x.flatten(1).float() / 255, record=record, size=size, mode=like.mode, rows=256)


def tap_space(config: MetricsConfig, like: Source, table: Mapping[str, Any], device: str) -> Space:
    """A layer of the diffusion backbone, at `timestep`, under one noise for all images."""
    if not table.get("name"):
        raise ConfigError(
            f"{like.name!r} records no diffusion backbone; name one with --backbone, or use --features pixels"
        )
    prompts = read_prompts(like.class_names, None, None, table.get("negative_prompt"), 1)
    how = {key: table[key] for key in ("arch", "vae", "dtype") if table.get(key)}
    backbone = open_backbone(str(table["name"]), prompts=prompts, device=device, **how)
    return space_of(backbone, config, guided_by=table.get("tap"))


def space_of(backbone: Backbone, config: MetricsConfig, guided_by: str | None = None) -> Space:
    """The tap of an open backbone. `guided_by` is the tap of the guidance, taken when none is named."""
    tap = config.tap or guided_by or backbone.default_tap
    if tap not in backbone.taps():
        raise ConfigError(unknown(f"tap of {backbone.name}", tap, backbone.taps()) + " (metrics.tap)")
    chain = backbone.chain("ddim", 1, 0.0)
    draw = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(backbone.latent_shape, generator=draw).to(backbone.device)
    null = backbone.null_condition(1)
    record = {
        "name": f"{tap} of the backbone at t = {config.timestep}",
        "tap": tap,
        "timestep": config.timestep,
        "pool": config.pool,
        "noise": f"the same for all images, seed {config.seed}",
        "condition": "null",
        "backbone": backbone.name,
        "weights": backbone.weights_digest(),
    }

    def features(images: Tensor) -> Tensor:
        x_0 = backbone.encode(images.float() / 255)
        x_t = chain.noised(x_0, noise.expand_as(x_0), config.timestep)
        found = backbone.tap_features(x_t, config.timestep, null, tap).float()
        if config.pool == "mean":
            return found.mean(1) if found.dim() == 3 else found.mean((2, 3))
        return found.flatten(1)

    size, mode = backbone.image_size, backbone.image_mode
    return Space(features=features, record=record, size=size, mode=mode, rows=default_micro_batch(backbone))


def side_of(source: Source) -> int:
    """The side in pixels that all images are brought to: what was asked for, else the first image's short side."""
    if source.size is not None:
        return source.size
    return min(source.images(0, [0]).shape[2:])
