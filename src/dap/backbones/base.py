"""What the rest of `dap` knows of a pretrained diffusion model. Only the files of this room know diffusers.

A third backbone is one file with a class that has these members; `dap.testing.check_backbone` proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dap.backbones.chain import Chain
from dap.types import Prediction

MICRO_BATCH = 50  # the most rows of one forward pass: beyond it a GPU gains little


class Backbone(Protocol):
    """A class-conditional diffusion model, frozen and in evaluation mode.

    name          what the user called it
    device        where it computes
    latent_shape  (C, H, W) of the space that diffusion runs in
    image_size    side in pixels of what `encode` takes and `decode` gives
    image_mode    "RGB" or "L"
    class_names   the backbone's own classes, in the order of its conditions
    cfg_scale     the classifier-free guidance its record recommends, 1 = off
    default_tap   the tap to guide by when the user names none
    row_cost      tokens x width of one row: what bounds the default micro-batch
    learned_variance  whether `predict` gives a variance that a ddpm chain can use

    One that `dap train` has made, from nothing or from such a one, says `from_scratch`: it has seen the
    user's own images alone.
    A text backbone has `prompts` too (dap.backbones.prompts): its classes are those of the dataset, and what it is
    told is recorded with the result.
    """

    name: str
    device: torch.device
    latent_shape: tuple[int, int, int]
    image_size: int
    image_mode: str
    class_names: tuple[str, ...]
    cfg_scale: float
    default_tap: str
    row_cost: int
    learned_variance: bool

    def weights_digest(self) -> str:
        """Names these exact weights: sha256 over the files, in hexadecimal."""
        ...

    def chain(self, scheduler: str, steps: int, eta: float, variance: str = "fixed") -> Chain:
        """The reverse chain of `steps` steps, built from the pipeline's own noise schedule; variance as in `Chain`."""
        ...

    def condition(self, classes: Sequence[int], indices: Sequence[int] | None = None) -> Tensor:
        """Conditions [B, ...] of the backbone's classes; `indices` number the images in their classes.

        A backbone may tell images of one class apart (prompts per image); None means the class as such: real images.
        """
        ...

    def null_condition(self, rows: int) -> Tensor:
        """`rows` unconditional conditions [rows, ...]."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images float [B, c, H, W] in [0, 1] -> x_0 [B, C, H, W]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """x_0 [B, C, H, W] -> images float [B, c, H, W] in [0, 1]."""
        ...

    def taps(self) -> tuple[str, ...]:
        """The names of the layers whose output can be tapped, from input to output."""
        ...

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        """eps [B, C, H, W] in float32 without gradient, and the features at `tap` from the same forward pass.

        `condition` has a row for each image, or a single one that all share.
        The autograd graph of the features reaches from `x` (when it requires a gradient) to the tap and not beyond.
        """
        ...

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        """The features at `tap` alone, without gradient; nothing behind the tap is computed."""
        ...


def default_micro_batch(backbone: Backbone) -> int:
    """The most rows of one forward pass when nobody names any and memory is not asked (`dap.memory`): by the model."""
    return max(1, min(MICRO_BATCH, 2**20 // backbone.row_cost))
