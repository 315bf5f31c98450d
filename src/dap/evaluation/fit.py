"""`fit`: train one network on one set under one protocol, and judge it. Tensors in, numbers out.

Sets lie in memory as uint8 on the device: no loader, no worker. The same seed on the same machine gives the
same numbers: initial weights and dropout from torch's global generator, forked and seeded; batches and
augmentation from a generator of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dap.errors import DataError
from dap.evaluation.augment import augment, cutmix, normalise
from dap.evaluation.networks import count_parameters
from dap.evaluation.protocols import Plan, Protocol


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


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one run gave. Accuracies are fractions of the test images.

    last         after the last step: the headline
    best         the largest of all `evaluations` on the test data: what papers report, never alone
    confusion    int64 [classes, classes] of the last evaluation: rows are true classes, columns what was said
    threads      of the CPU: sums are rounded differently with another number
    seconds      wall time, evaluations included
    """

    last: float
    best: float
    evaluations: int
    steps: int
    confusion: Tensor
    parameters: int
    threads: int
    seconds: float


def fit(
    make: Callable[[], nn.Module],
    train: Labelled,
    test: Labelled,
    *,
    classes: int,
    protocol: Protocol,
    plan: Plan,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train `make()` on `train` as `protocol` and `plan` say; evaluate on `test`.

    make      the network's constructor, called once with the global generator seeded
    progress  called with (steps done, steps) after every step

    Raises: DataError when the two sets differ in size or hold labels outside 0 .. classes - 1.
    """
    _check(train, test, classes)
    began, device = time.perf_counter(), torch.device(device)
    with _seeded(seed, device):
        network = make().to(device)
        data = train.to(device), test.to(device)
        with _threads(count_parameters(network) * plan.batch * train.images[0, 0].numel()) as threads:
            confusions = list(_train(network, *data, classes, protocol, plan, seed, progress))
    accuracies = [confusion.trace().item() / len(test.labels) for confusion in confusions]
    return Fit(
        last=accuracies[-1],
        best=max(accuracies),
        evaluations=len(accuracies),
        steps=plan.steps,
        confusion=confusions[-1],
        parameters=count_parameters(network),
        threads=threads,
        seconds=time.perf_counter() - began,
    )


def _train(
    network: nn.Module,
    train: Labelled,
    test: Labelled,
    classes: int,
    protocol: Protocol,
    plan: Plan,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Tensor]:
    """All steps of the plan; yields the confusion matrix of every evaluation."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = _optimiser(network, protocol, plan)
    for step, rows in enumerate(_batches(plan, generator)):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(step)
        _train_step(network, optimiser, train, rows.to(train.labels.device), protocol, generator)
        if plan.evaluates_after(step):
            yield evaluate_network(network, test, classes, protocol)
        if progress is not None:
            progress(step + 1, plan.steps)


@torch.no_grad()
def evaluate_network(network: nn.Module, test: Labelled, classes: int, protocol: Protocol) -> Tensor:
    """The confusion matrix, int64 [classes, classes] on the CPU: rows are true classes, columns what was
    said.
    """
    was_training = network.training
    network.eval()
    size = test.images.shape[-1]
    rows = min(512, max(16, 2**20 // size**2))  # bounds the memory of activations at 224 px
    parts = torch.split(test.images, rows)
    said = torch.cat([network(normalise(part.float() / 255, protocol)).argmax(1) for part in parts])
    network.train(was_training)
    return torch.bincount(test.labels * classes + said, minlength=classes**2).view(classes, classes).cpu()


def _train_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: Labelled,
    rows: Tensor,
    protocol: Protocol,
    generator: torch.Generator,
) -> None:
    images, labels = augment(train.images[rows], protocol, generator), train.labels[rows]
    optimiser.zero_grad()
    if protocol.cutmix:
        mixed = cutmix(images, generator)
        logits = network(mixed.images)
        loss = mixed.ratio * F.cross_entropy(logits, labels)
        loss = loss + (1 - mixed.ratio) * F.cross_entropy(logits, labels[mixed.partner])
    else:
        loss = F.cross_entropy(network(images), labels)
    loss.backward()
    optimiser.step()


def _batches(plan: Plan, generator: torch.Generator) -> Iterator[Tensor]:
    """The rows of every step: shuffled epochs with their last partial batch, or draws with replacement."""
    if plan.epochs is None:
        for _ in range(plan.steps):
            yield torch.randint(plan.images, (plan.batch,), generator=generator)
    else:
        for _ in range(plan.epochs):
            yield from torch.split(torch.randperm(plan.images, generator=generator), plan.batch)


def _optimiser(network: nn.Module, protocol: Protocol, plan: Plan) -> torch.optim.Optimizer:
    weights, decay = network.parameters(), plan.weight_decay  # fused: a third of the time on small networks
    if protocol.optimiser == "sgd":
        return torch.optim.SGD(weights, plan.rate, momentum=protocol.momentum, weight_decay=decay, fused=True)
    return torch.optim.AdamW(weights, plan.rate, betas=(0.9, 0.999), weight_decay=decay, fused=True)


def _check(train: Labelled, test: Labelled, classes: int) -> None:
    sides = train.images.shape[-1], test.images.shape[-1]
    if sides[0] != sides[1]:
        raise DataError(f"training images have {sides[0]} px and test images {sides[1]} px; bring them to one size")
    for name, part in (("training", train), ("test", test)):
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= classes:
            raise DataError(f"{name} labels run from {low} to {high}; they must lie in 0 .. {classes - 1}")


@contextmanager
def _threads(work: int) -> Iterator[int]:
    """One CPU thread inside when a step is small: two gain little there, and on a busy machine cost tenfold.

    work  parameters x pixels of a batch, a rough count of a convolutional network's multiply-adds
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < 1e9 else before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global generators seeded inside and as before outside; deterministic convolutions on a GPU."""
    forked = [device.index or 0] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before
