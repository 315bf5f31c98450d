"""Soft labels in an evaluation: the teacher is opened and checked first, then gives every training its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from dap.config import EvaluationConfig
from dap.data import Source
from dap.errors import ConfigError, StoreError
from dap.evaluation.batches import Batch, Batches, Labelled, hard_batches
from dap.evaluation.candidate import Candidate
from dap.evaluation.protocol import Protocol
from dap.evaluation.schedule import Plan
from dap.evaluation.stored import StoredLabels, check_disk, stored_labels
from dap.evaluation.teachers import Teacher, open_teacher
from dap.evaluation.teachers.check import check_classes
from dap.evaluation.training import check_computing, evaluate_network


@dataclass(frozen=True)
class Online:
    """Batches with the teacher's labels of each mixed image, computed at every step (RDED, Sun et al. 2024)."""

    teacher: Teacher

    def __call__(
        self, train: Labelled, protocol: Protocol, plan: Plan, generator: Generator, *, pairs: bool, done: int = 0
    ) -> Iterator[Batch]:
        """As `hard_batches`, with logits."""
        for batch in hard_batches(train, protocol, plan, generator, pairs=pairs, done=done):
            with torch.no_grad():
                logits = self.teacher.network(batch.images)
            yield replace(batch, logits=logits)


@dataclass(frozen=True)
class Soft:
    """A checked teacher, and where the labels of each set come from.

    cache   the folder of stored labels of plain folders and baselines: nothing is written into a user's own folders
    record  of the teacher, fit for JSON
    """

    teacher: Teacher
    classes: int
    cache: Path | None
    record: dict[str, Any]

    def batches(self, candidate: Candidate, train: Labelled, protocol: Protocol, plan: Plan) -> Batches:
        """The batches of one training on `train`, which `candidate` has drawn."""
        if protocol.labels == "online":
            return Online(self.teacher)
        return self._stored(candidate, train, protocol, plan) if protocol.labels == "stored" else hard_batches

    def check_disk(self, trainings: Iterable[tuple[Candidate, int, Protocol, Plan]]) -> None:
        """Raise StoreError, before any training, when labels are to be stored and a disk is too small for them.

        trainings  those to be done: a set, which repeat, and what is done with it
        """
        draws = {  # networks share labels
            (id(candidate), repeat, protocol): (candidate, repeat, protocol, plan)
            for candidate, repeat, protocol, plan in trainings
            if protocol.labels == "stored"
        }
        check_disk([self._stored(one, one.draw(i)[0], protocol, plan) for one, i, protocol, plan in draws.values()])

    def _stored(self, candidate: Candidate, train: Labelled, protocol: Protocol, plan: Plan) -> StoredLabels:
        folder = self.cache if candidate.directory is None else candidate.directory
        if folder is None:
            raise StoreError(f"labels of {candidate.name!r} are to be stored and no cache can be: add --cache DIR")
        return stored_labels(folder / "labels", train, self.teacher, protocol, plan, self.classes)


def open_soft(
    config: EvaluationConfig,
    protocol: Protocol,
    candidates: Sequence[Candidate],
    test: Source,
    held_out: Callable[[int, str], Labelled],
    device: str,
    cache: Path | None,
) -> Soft | None:
    """The teacher that `config` names, checked on the test data; None where the protocol's labels are hard.

    held_out  (size, mode) -> the test images, to be judged as a student will be
    cache     where labels are stored of what is no distilled dataset

    Raises: ConfigError when a teacher is missing, not needed, or cannot be had; DataError when it knows other classes
    or gets less than twice chance. Warns when another order of its classes fits better.
    """
    if not _asked(config, protocol, device):
        return None
    size, mode = candidates[0].size, candidates[0].mode
    spec = str(config.teacher)
    teacher = open_teacher(
        spec,
        test.class_names,
        size=size,
        normalise=protocol.normalise,
        network=config.teacher_network,
        classes=config.teacher_classes,
    )
    teacher.network.to(device)
    images, classes = held_out(size, mode).to(torch.device(device)), len(test.class_names)
    confusion = evaluate_network(teacher.network, images, classes, protocol)
    checked = check_classes(confusion, test.class_names, spec, test.name)
    return Soft(teacher, classes, cache, {**teacher.record, "digest": teacher.digest, **checked})


def _asked(config: EvaluationConfig, protocol: Protocol, device: str) -> bool:
    """Whether a teacher is to be opened. Raises: ConfigError for one too many or few, and for what the device lacks."""
    check_computing(torch.device(device), bf16=config.dtype == "bf16", compiled=config.compile)
    if protocol.labels == "hard" and config.teacher is not None:
        raise ConfigError(f"protocol {protocol.name!r} has hard labels; leave --teacher out, or use soft-rded")
    if protocol.labels != "hard" and config.teacher is None:
        raise ConfigError(
            f"protocol {protocol.name!r} needs a teacher: --teacher torchvision:resnet18 for ImageNet's classes, else "
            "dap teacher DATA --network torchvision:resnet18 --out T and --teacher T"
        )
    return config.teacher is not None
