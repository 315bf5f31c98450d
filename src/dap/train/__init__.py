"""Training and fine-tuning of class-conditional DiTs; `train` is the one verb."""

from __future__ import annotations

from dap.train.diffusion import Progress
from dap.train.job import train

__all__ = ["Progress", "train"]
