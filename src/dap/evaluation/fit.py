"""`fit`: train one network on one set under one protocol, and judge it. Tensors in, numbers out.

Sets lie in memory as uint8 on the device: no loader, no worker. The same seed on the same machine gives the
same numbers: initial weights and dropout from torch's global generator, forked and seeded; batches and
augmentation from a generator of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dap.errors import DataError
from dap.evaluation.batches import Batches, Labelled, hard_batches
from dap.evaluation.networks import count_parameters
from dap.evaluation.protocol import Protocol
from dap.evaluation.schedule import Plan
from dap.evaluation.training import Training, seeded, training_threads

__all__ = ["Fit", "Labelled", "fit"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one run gave. Accuracies are fractions of the test images.

    last         after the last step: the headline
    best         the largest of all `evaluations` on the test data: what papers report, never alone
    confusion    int64 [classes, classes] of the last evaluation: rows are true classes, columns what was said
    threads      of the CPU: sums are rounded differently with another number
    seconds      wall time, evaluations included
    notes        what a reader must know about how it was trained
    """

    last: float
    best: float
    evaluations: int
    steps: int
    confusion: Tensor
    parameters: int
    threads: int
    seconds: float
    notes: tuple[str, ...] = ()


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
    batches: Batches = hard_batches,
    bf16: bool = False,
    compiled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train `make()` on `train` as `protocol` and `plan` say; evaluate on `test`.

    make      the network's constructor, called once with the global generator seeded
    batches   where training batches and their labels come from; soft labels: `dap.evaluation.soft`
    bf16      forward passes under bf16 autocast; `compiled`: through torch.compile
    progress  called with (steps done, steps) after every step

    Raises: DataError when the two sets differ in size or hold labels outside 0 .. classes - 1; ConfigError for bf16
    or compilation where the device or the machine lacks it.
    """
    _check(train, test, classes)
    began, device = time.perf_counter(), torch.device(device)
    with seeded(seed, device):
        training = Training(make, protocol, plan, seed, device, bf16=bf16, compiled=compiled)
        train, test = train.to(device), test.to(device)
        confusions = []
        with training_threads(training.network, train, plan) as threads:
            for step in training.steps(train, batches):
                if plan.evaluates_after(step):
                    confusions.append(training.judge(test, classes))
                if progress is not None:
                    progress(step + 1, plan.steps)
    notes = tuple(dict.fromkeys([*training.notes, *getattr(batches, "notes", ())]))
    return _fit_of(confusions, training, threads=threads, seconds=time.perf_counter() - began, notes=notes)


def _fit_of(confusions: list[Tensor], training: Training, **facts: Any) -> Fit:
    accuracies = [confusion.trace().item() / int(confusion.sum()) for confusion in confusions]
    return Fit(
        last=accuracies[-1],
        best=max(accuracies),
        evaluations=len(accuracies),
        steps=training.plan.steps,
        confusion=confusions[-1],
        parameters=count_parameters(training.network),
        **facts,
    )


def _check(train: Labelled, test: Labelled, classes: int) -> None:
    sides = train.images.shape[-1], test.images.shape[-1]
    if sides[0] != sides[1]:
        raise DataError(f"training images have {sides[0]} px and test images {sides[1]} px; bring them to one size")
    for name, part in (("training", train), ("test", test)):
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= classes:
            raise DataError(f"{name} labels run from {low} to {high}; they must lie in 0 .. {classes - 1}")
