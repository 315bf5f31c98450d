"""The grid of samples that shows how a training stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dap.backbones.dit import DiTBackbone
from dap.errors import SamplingError
from dap.pictures import grid, save_png, to_uint8
from dap.sampling import Sampler, trajectory
from dap.train.diffusion import Trainer
from dap.types import Unit

GRID_IMAGES, GRID_STEPS = 8, 25


@dataclass(frozen=True)
class Parts:
    """What a pipeline has besides its transformer."""

    class_names: tuple[str, ...]
    scheduler: dict[str, Any]
    vae: Any = None
    vae_directory: Path | None = None


def sample_grid(trainer: Trainer, parts: Parts, path: Path) -> Path | None:
    """One row of samples a class (of the first 20), by the averaged weights and DDIM; None when not finite."""
    weights = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(trainer.ema)
    backbone = DiTBackbone(trainer.model, parts.scheduler, parts.class_names, vae=parts.vae, device=trainer.device)
    classes = range(min(20, len(parts.class_names)))
    units = [Unit(label, i, 1000 * label + i) for label in classes for i in range(GRID_IMAGES)]
    sampler = Sampler(
        backbone=backbone,
        chain=backbone.chain("ddim", GRID_STEPS, 0.0),
        classes=tuple(range(len(parts.class_names))),
        cfg_scale=trainer.config.cfg_scale,
        cfg_channels="all",
        micro_batch=20,
    )
    try:
        *_, last = trajectory(sampler, units, None)
        images = torch.cat([backbone.decode(part) for part in last.x.split(20)])
    except SamplingError:  # early weights may overflow; that is no reason to stop a training
        return None
    finally:
        trainer.model.load_state_dict(weights)
        trainer.model.train().requires_grad_(True)
    return save_png(grid(to_uint8(images), GRID_IMAGES, scale=max(1, 48 // images.shape[-1])), path)
