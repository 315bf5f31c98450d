"""The matrix: every set and baseline with every network, as often as asked; each training a cell, kept as it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch

from dap.config import EvaluationConfig
from dap.data import Source
from dap.evaluation.batches import Labelled, hard_batches
from dap.evaluation.candidate import Candidate
from dap.evaluation.cells import Cell, Measured, identity_of, measured_here
from dap.evaluation.fit import fit
from dap.evaluation.networks import build_network
from dap.evaluation.protocols import Plan, Protocol
from dap.evaluation.sets import load_test
from dap.evaluation.soft import Soft, open_soft

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the result: a set or baseline and a network, under a protocol; a cell for each repeat."""

    candidate: Candidate
    network: str
    protocol: Protocol
    plan: Plan
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all are judged on, and how.

    held_out  (size, mode) -> the test images: loaded when one needs them, once
    soft      the teacher where labels are soft
    store     the folder of cells that no distilled dataset owns; None: they are not kept
    """

    test: Source
    config: EvaluationConfig
    device: str
    held_out: Callable[[int, str], Labelled]
    soft: Soft | None
    store: Path | None


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a call is about to do: `trainings` of `steps` steps in all, beside `kept` ones of earlier calls."""

    protocol: Protocol
    networks: tuple[str, ...]
    trainings: int
    kept: int
    steps: int
    device: str

    @staticmethod
    def of(entries: Sequence[Entry], missing: Sequence[int], device: str) -> Ahead:
        """Of these entries, with the steps of each training that is missing."""
        return Ahead(
            protocol=entries[0].protocol,
            networks=tuple(dict.fromkeys(one.network for one in entries)),
            trainings=len(missing),
            kept=sum(len(one.cells) for one in entries) - len(missing),
            steps=sum(missing),
            device=device,
        )


def open_ground(
    test: Source,
    candidates: Sequence[Candidate],
    protocol: Protocol,
    config: EvaluationConfig,
    device: str,
    store: Path | None,
) -> Ground:
    """The ground with its teacher opened and checked. Raises: as `open_soft`."""
    held_out = cache(lambda size, mode: load_test(test, protocol, size=size, mode=mode))
    soft = open_soft(config, protocol, candidates, test, held_out, device, store)
    return Ground(test=test, config=config, device=device, held_out=held_out, soft=soft, store=store)


def entry(candidate: Candidate, network: str, protocol: Protocol, ground: Ground) -> Entry:
    """A row with its plan and the identity of every repeat; nothing is trained."""
    config, form = ground.config, {"size": candidate.size, "mode": candidate.mode}
    plan = protocol.plan(
        classes=len(candidate.counts),
        images=sum(candidate.counts),
        ipc=candidate.ipc,
        scale=config.epochs_scale,
        network=network,
    )
    folder = ground.store if candidate.directory is None else candidate.directory / "evaluation" / "cells"
    cells = [
        Cell(
            identity_of(
                train={**candidate.chosen(repeat), **form},
                test={"images": ground.test.digest, **form},
                network=network,
                protocol=protocol,
                plan=plan,
                seed=repeat,
                config=config,
                device=ground.device,
                teacher=ground.soft.teacher.digest if ground.soft and protocol.labels != "hard" else None,
            ),
            folder,
        )
        for repeat in range(config.repeats)
    ]
    return Entry(candidate=candidate, network=network, protocol=protocol, plan=plan, cells=tuple(cells))


def measure(
    entries: Sequence[Entry],
    ground: Ground,
    progress: Progress | None,
    on_plan: Callable[[Ahead], None] | None = None,
    on_kept: Callable[[], None] | None = None,
) -> list[list[Measured]]:
    """Every cell, those of earlier runs as they were kept, the others trained and kept as they end.

    progress  called with (training steps done, steps to do in this run, what is being trained)
    on_plan   called once, before the first training
    on_kept   called after each training that a later call will find

    Returns one list an entry, one value a repeat. Several processes may do this at once (`Worker`).
    Raises: StoreError, before any training, when labels are to be stored and a disk is too small.
    """
    places = [(i, repeat) for i, one in enumerate(entries) for repeat in range(len(one.cells))]
    found = {(i, repeat): entries[i].cells[repeat].read() for i, repeat in places}
    missing = Worker.here().order([place for place in places if found[place] is None])
    if ground.soft is not None:
        to_store = [(entries[i], repeat) for i, repeat in missing]
        ground.soft.check_disk((one.candidate, repeat, one.protocol, one.plan) for one, repeat in to_store)
    ahead = Ahead.of(entries, [entries[i].plan.steps for i, _ in missing], ground.device)
    if on_plan is not None:
        on_plan(ahead)
    done = 0
    for i, repeat in missing:
        one, cell = entries[i], entries[i].cells[repeat]
        value = cell.read()  # another row of this call, or another process, may have trained it by now
        if value is None:
            what = f"{one.candidate.name}, {one.network}, repeat {repeat + 1} of {len(one.cells)}"
            value = _train(one, repeat, ground, _counted(progress, done, ahead.steps, what))
            cell.write(value)
            if on_kept is not None and cell.folder is not None:
                on_kept()
        found[i, repeat] = value
        done += one.plan.steps
    return [[value for (at, _), value in found.items() if at == i and value] for i in range(len(entries))]


@dataclass(frozen=True)
class Worker:
    """One of several processes that measure the same matrix, as `accelerate launch` and torchrun number them.

    Each begins at another place and passes over what the others have kept, so all end with the whole; nobody waits,
    and one that dies leaves its share to the rest.
    """

    rank: int
    world: int

    @staticmethod
    def here() -> Worker:
        """This process; alone where nobody numbered it."""
        rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
        alone = not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world))
        return Worker(0, 1) if alone else Worker(int(rank), int(world))

    def order(self, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """All places, beginning with this process's share."""
        start = self.rank * len(places) // self.world
        return places[start:] + places[:start]

    def device(self, asked: str) -> str:
        """`auto` on a machine with several GPUs is another GPU for each process."""
        local = os.environ.get("LOCAL_RANK", "0")
        several = self.world > 1 and asked == "auto" and torch.cuda.device_count() > 1 and local.isdecimal()
        return f"cuda:{int(local) % torch.cuda.device_count()}" if several else asked


def without_augmentation(protocol: Protocol) -> Protocol:
    """The protocol with everything off that changes training images."""
    return replace(protocol, shuffle=0, crop=None, flip=False, jitter=0.0, lighting=0.0, shift=0, cutmix=False)


def with_hard_labels(protocol: Protocol) -> Protocol:
    """The protocol with the set's own labels and cross-entropy, whatever its labels are."""
    return replace(protocol, labels="hard", temperature=1.0)


def _train(one: Entry, repeat: int, ground: Ground, progress: Callable[[int, int], None] | None) -> Measured:
    train, content = one.candidate.draw(repeat)
    classes, soft = len(one.candidate.counts), ground.soft
    result = fit(
        partial(build_network, one.network, classes, size=one.candidate.size),
        train,
        ground.held_out(one.candidate.size, one.candidate.mode),
        classes=classes,
        protocol=one.protocol,
        plan=one.plan,
        seed=repeat,
        device=ground.device,
        batches=soft.batches(one.candidate, train, one.protocol, one.plan) if soft else hard_batches,
        bf16=ground.config.dtype == "bf16",
        compiled=ground.config.compile,
        progress=progress,
    )
    return measured_here(result, content)


def _counted(progress: Progress | None, before: int, total: int, what: str) -> Callable[[int, int], None] | None:
    """The progress of one run as that of all of them."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total, what)
