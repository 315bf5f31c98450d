"""`dap distill --dry-run`: what it would make and cost, estimated from one timed step."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from dap.bank import HALF
from dap.commands.live import guided_steps
from dap.distillation import Job
from dap.memory import Thrift
from dap.store import Store
from dap.terminal import counted, duration
from dap.types import Chunk


@dataclass(frozen=True)
class Estimate:
    """What a run would cost: rows forwarded, bytes, seconds. Times are those of one timed step on this machine.

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
    lines = (
        f"{job.out}: {images} images of {len(job.source.class_names)} classes, "
        f"{sum(len(c.units) for c in chunks)} to make in {counted(len(chunks), 'chunk')}, "
        f"{cost.micro_batch} rows a pass",
        f"forwards: {cost.rows} rows through the backbone"
        + (f", {cost.real_rows} rows of real images as far as the tap" if cost.real_rows else ""),
        f"memory: about {cost.memory / 1e6:.0f} MB in all; disk: at most {cost.disk / 1e6:.1f} MB",
        *([line] if (line := cache_line(job)) else []),
        f"time: about {duration(cost.seconds)} on {job.backbone.device}, from one timed step; nothing was written",
        *cost.notes,
    )
    return record, "\n".join(lines)


def estimate(job: Job, chunks: tuple[Chunk, ...]) -> Estimate:
    """Rows by counting, seconds from one guided and one unguided step of the first chunk, memory as it stands then."""
    count = len(job.sampler.chain.timesteps)
    taken = range(count - int(count * (job.config.sampling.start or 1)), count)
    guided = sum(guided_steps(job)[taken.start :])
    real = 0
    if job.guided is not None and job.reference is not None and job.guided.tap is not None:
        around = [job.reference.anchors(i) for i, on in enumerate(guided_steps(job)) if on and i in taken]
        anchors = {low for low, _, _ in around} | {high for _, high, share in around if share}
        own = sum(job.reference.count(label) for c in chunks for label in {u.label for u in c.units})
        real = len(anchors) * (own + (sum(count for _, count in job.reference.pool) if own else 0))
    size = job.backbone.image_size**2 * (1 if job.backbone.image_mode == "L" else 3)
    disk = sum(len(c.units) for c in chunks) * (size + 1200)
    seconds, thrift = 0.0, job.thrift(job.guided)
    if chunks:
        shifted, plain = timed_step(thrift, chunks[0], True) if guided else 0.0, timed_step(thrift, chunks[0], False)
        share = sum(len(c.units) for c in chunks) / len(chunks[0].units)
        seconds = share * (guided * shifted + (len(taken) - guided) * plain)
    micro = thrift.sampler.micro_batch
    passes = sum(-(-len(chunk.units) // micro) for chunk in chunks)
    rows = passes * micro * len(taken) * (1 if job.sampler.cfg_scale == 1 else 2)
    return Estimate(rows, real, seconds, peak_memory(job), disk, micro, tuple(thrift.notes))


def timed_step(thrift: Thrift, chunk: Chunk, guided: bool) -> float:
    """Seconds of the second step of a trajectory (the first one warms up), guided throughout or not at all."""
    whole, told = thrift.guided, -1
    thrift.guided = replace(whole, interval=(0.0, 2.0)) if guided and whole else None
    while told != len(thrift.notes):  # memory ran out meanwhile: what was timed was the beginning again
        told, states = len(thrift.notes), thrift.sample(chunk)
        next(states)
        began = time.perf_counter()
        next(states, None)
        seconds = time.perf_counter() - began
    thrift.guided = whole
    return seconds


def peak_memory(job: Job) -> int:
    """Bytes at the highest point so far: of the GPU when one computes, else of this process."""
    import resource

    import torch

    if job.backbone.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(job.backbone.device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
