"""`dap distill --dry-run`: what it would make and cost, estimated from a few timed steps."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dap.bank import HALF
from dap.commands.live import guided_steps
from dap.distillation import Job
from dap.memory import Thrift
from dap.sampling import Start, State
from dap.store import Store
from dap.terminal import counted, duration
from dap.types import Chunk


@dataclass(frozen=True)
class Estimate:
    """What a run would cost: rows forwarded, bytes, seconds. Times are those of a few steps on this machine.

    micro_batch  rows of a pass, fewer than planned when memory ran out; `notes` then say so
    """

    rows: int
    real_rows: int
    seconds: float
    memory: int
    disk: int
    micro_batch: int
    notes: tuple[str, ...] = ()


def cache_line(job: Job) -> str:
    """What a reference cache will hold, "" without one."""
    reference, guidance = job.reference, job.guidance
    if reference is None or guidance is None or guidance.tap is None or reference.bank is None:
        return ""
    wanted = reference.shapes()
    whole, missing = HALF * sum(map(math.prod, wanted.values())), reference.bank.missing_bytes(wanted)
    return f"reference cache: {whole / 1e6:.0f} MB in {reference.bank.path}, {missing / 1e6:.0f} MB still to write"


def dry(job: Job, chosen: tuple[Chunk, ...]) -> tuple[dict[str, Any], str]:
    """What is missing of the chosen chunks, with its cost; writes nothing."""
    done = Store.open(job.out) if (job.out / "plan.json").exists() else None
    chunks = chosen if done is None else done.missing(chosen)
    images = sum(len(c.units) for c in job.chunks)
    cost = estimate(job, chunks)
    record = {
        "out": str(job.out),
        "images": images,
        "digest": job.record["digest"],
        "seconds": round(cost.seconds, 1),
        "dry_run": True,
        "chunks": len(chunks),
        "forwarded_rows": cost.rows,
        "real_rows": cost.real_rows,
        "memory_bytes": cost.memory,
        "disk_bytes": cost.disk,
        **({"notes": list(cost.notes)} if cost.notes else {}),
    }
    if not chunks:
        what = "nothing is missing" if len(chosen) == len(job.chunks) else "of what was asked for nothing is missing"
        return record, f"{job.out}: {images} images are planned and {what}; nothing was written"
    lines = (
        f"{job.out}: {images} images of {len(job.source.class_names)} classes, "
        f"{sum(len(c.units) for c in chunks)} to make in {counted(len(chunks), 'chunk')}, "
        f"{cost.micro_batch} rows a pass",
        f"forwards: {cost.rows} rows through the backbone"
        + (f", {cost.real_rows} rows of real images as far as the tap" if cost.real_rows else ""),
        f"memory: about {cost.memory / 1e6:.0f} MB in all; disk: at most {math.ceil(cost.disk / 1e5) / 10} MB",
        *([line] if (line := cache_line(job)) else []),
        f"time: about {duration(cost.seconds)} on {job.backbone.device}, from a few timed steps; nothing was written",
        *cost.notes,
    )
    return record, "\n".join(lines)


def estimate(job: Job, chunks: tuple[Chunk, ...]) -> Estimate:
    """Rows by counting, seconds from a few steps of the first chunk, memory as it stands then."""
    taken = job.taken
    guided = [i for i, on in zip(taken, guided_steps(job), strict=True) if on]
    real, seconds, thrift = real_rows(job, chunks, guided), 0.0, job.thrift(job.guided)
    if chunks:
        _, plain = timed_steps(thrift, chunks[0], None)
        share = sum(len(c.units) for c in chunks) / len(chunks[0].units)
        seconds = share * (len(taken) - len(guided)) * plain
        if guided:
            first = real_rows(job, chunks[:1], guided[:1])
            extracting, shifted = timed_steps(thrift, chunks[0], guided[0])
            seconds += share * len(guided) * shifted + max(0.0, extracting - shifted) * (real / first if first else 0)
    size = job.backbone.image_size**2 * (1 if job.backbone.image_mode == "L" else 3)
    disk = sum(len(c.units) for c in chunks) * (size + 1200)
    micro = thrift.sampler.micro_batch
    passes = sum(-(-len(chunk.units) // micro) for chunk in chunks)
    rows = passes * micro * len(taken) * (1 if job.sampler.cfg_scale == 1 else 2)
    return Estimate(rows, real, seconds, peak_memory(job), disk, micro, tuple(thrift.notes))


def real_rows(job: Job, chunks: tuple[Chunk, ...], guided: Sequence[int]) -> int:
    """Rows of real images that the guided steps extract: at anchors that no cache holds; of large classes at each."""
    reference = job.reference
    if reference is None or job.guidance is None or job.guidance.tap is None or not guided or not chunks:
        return 0
    around = [reference.anchors(i) for i in guided]
    anchors = {low for low, _, _ in around} | {high for _, high, share in around if share}
    labels = [label for chunk in chunks for label in dict.fromkeys(unit.label for unit in chunk.units)]
    labels += [len(reference.classes)] if reference.negative_pool else []

    def extracted(label: int) -> int:
        if reference.in_parts(label):
            return len(guided)
        shape, bank = (reference.count(label), reference.row_numbers), reference.bank
        return sum(bank is None or not bank.holds((label, step), shape) for step in anchors)

    return sum(extracted(label) * reference.count(label) for label in labels)


def timed_steps(thrift: Thrift, chunk: Chunk, index: int | None) -> tuple[float, float]:
    """Seconds of two steps of a trajectory begun at step `index`, guided, or at the first one, unguided (None).

    The first of two guided steps extracts real features, which the second finds, as long as they can be kept.
    """
    whole, told, seconds = thrift.guided, -1, (0.0, 0.0)
    count, shape = len(thrift.sampler.chain.timesteps), thrift.sampler.backbone.latent_shape
    zeros = torch.zeros(len(chunk.units), *shape)
    start = None if index is None else Start(x_0=zeros, strength=(count - index) / count)
    start = None if index == 0 else start
    thrift.guided = None if index is None else whole
    while told != len(thrift.notes):  # memory ran out meanwhile: what was timed was the beginning again
        told, states = len(thrift.notes), thrift.sample(chunk, lambda: start)
        seconds = _timed(states), _timed(states)
    thrift.guided = whole
    return seconds if seconds[1] else (seconds[0], seconds[0])


def _timed(states: Iterator[State]) -> float:
    """Seconds of one step; 0 behind the last one."""
    began = time.perf_counter()
    return time.perf_counter() - began if next(states, None) is not None else 0.0


def peak_memory(job: Job) -> int:
    """Bytes at the highest point so far: of the GPU when one computes, else of this process."""
    import resource

    if job.backbone.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(job.backbone.device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
