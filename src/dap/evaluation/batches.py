"""Training batches as a protocol wants them, and the loss that goes with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dap.errors import DataError
from dap.evaluation.augment import augment, cutmix
from dap.evaluation.protocol import Protocol
from dap.evaluation.schedule import Plan

COMPANY = "a batch of one image gets a second one, drawn at random: batch norm needs two"


@dataclass(frozen=True)
class Labelled:
    """Images uint8 [n, 3, s, s] and their labels int64 [n], 0 .. classes - 1."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise DataError(f"images are {self.images.dtype} {list(self.images.shape)}; give uint8 [n, 3, s, s]")
        if self.images.shape[2] != self.images.shape[3]:
            raise DataError(f"images are {self.images.shape[3]}x{self.images.shape[2]}; give square images")
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise DataError(f"{len(self.images)} images and {len(self.labels)} labels; give one label an image")

    def to(self, device: torch.device) -> Labelled:
        """The same on that device."""
        return Labelled(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    images   float32 [B, 3, s, s]: augmented, normalised, mixed
    labels   int64 [B] of the images before mixing, `partner` int64 [B] whose pixels were mixed in, and `ratio`, the
             share of its own pixels that each kept; None, 1: nothing was mixed
    logits   float [B, classes] of the teacher for the mixed images; None: labels are hard
    """

    images: Tensor
    labels: Tensor
    partner: Tensor | None = None
    ratio: float = 1.0
    logits: Tensor | None = None


class Batches(Interface):
    """Where the batches of a training come from."""

    def __call__(
        self, train: Labelled, protocol: Protocol, plan: Plan, generator: Generator, *, pairs: bool, done: int = 0
    ) -> Iterator[Batch]:
        """The batches of all steps of the plan from step `done` on (whole epochs); as drawn from `generator`.

        pairs  no batch of one image: a second one, drawn at random, keeps it company
        """


def hard_batches(
    train: Labelled, protocol: Protocol, plan: Plan, generator: Generator, *, pairs: bool, done: int = 0
) -> Iterator[Batch]:
    """Batches with the set's own labels."""
    for rows in rows_of(plan, generator, pairs=pairs, done=done):
        rows = rows.to(train.labels.device)
        images, labels = augment(train.images[rows], protocol, generator), train.labels[rows]
        if protocol.cutmix:
            mixed = cutmix(images, generator)
            yield Batch(mixed.images, labels, mixed.partner, mixed.ratio)
        else:
            yield Batch(images, labels)


def rows_of(plan: Plan, generator: Generator, *, pairs: bool, done: int = 0) -> Iterator[Tensor]:
    """The rows of every step: shuffled epochs with their last partial batch, or draws with replacement."""
    for _ in range(done // plan.steps_per_epoch, plan.steps // plan.steps_per_epoch):
        if plan.epochs is None:
            parts: tuple[Tensor, ...] = (torch.randint(plan.images, (plan.batch,), generator=generator),)
        else:
            parts = torch.split(torch.randperm(plan.images, generator=generator), plan.batch)
        for rows in parts:
            if pairs and len(rows) == 1 < plan.images:
                other = torch.randint(plan.images - 1, (1,), generator=generator)
                rows = torch.cat([rows, other + (other >= rows)])
            yield rows


def loss_of(batch: Batch, output: Tensor, protocol: Protocol) -> Tensor:
    """Cross-entropy with the hard labels, in their CutMix ratio; or, where there is a teacher,

    KL(softmax(teacher / T) || softmax(output / T)), the mean over the batch, without the factor T squared
    (Sun et al. 2024, Yin et al. 2023).
    """
    if batch.logits is not None:
        wanted = (batch.logits.float() / protocol.temperature).softmax(1)
        return F.kl_div((output / protocol.temperature).log_softmax(1), wanted, reduction="batchmean")
    if batch.partner is None:
        return F.cross_entropy(output, batch.labels)
    own = batch.ratio * F.cross_entropy(output, batch.labels)
    return own + (1 - batch.ratio) * F.cross_entropy(output, batch.labels[batch.partner])
