"""`dap distill`: several seeds, part of a plan, or a dry run with an estimate from one timed step."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dap.bank import HALF
from dap.commands.live import Pace, show_last
from dap.config import Config
from dap.distillation import Job, open_job, summary
from dap.errors import ConfigError
from dap.guidance import acts
from dap.memory import Thrift, enough_memory
from dap.store import Store
from dap.terminal import Talk, duration
from dap.trace import check_trace, trace
from dap.types import Chunk


def run_distill(
    config: Config,
    out: Path,
    seeds: str | None,
    only: list[str],
    dry_run: bool,
    talk: Talk,
    traces: Sequence[str] = (),
) -> tuple[dict[str, Any], str]:
    """Distils (or says what it would do); returns the JSON record and a line for people.

    With several seeds the sets lie in OUT/seed-N and the record's "sets" lists them.
    """
    if seeds is None:
        return run_one(config, out, only, dry_run, talk, traces)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: write whole numbers with commas, e.g. 0,1,2") from None
    runs = []
    for number in numbers:
        seeded = replace(config, run=replace(config.run, seed=number))
        runs.append(run_one(seeded, out / f"seed-{number}", only, dry_run, talk, traces))
    records = [record for record, _ in runs]
    total = {
        "out": records[0]["out"],
        "images": sum(r["images"] for r in records),
        "digest": records[0]["digest"],
        "seconds": round(sum(r["seconds"] for r in records), 3),
        "sets": records,
    }
    return total, "\n".join(text for _, text in runs)


def run_one(
    config: Config, out: Path, only: list[str], dry_run: bool, talk: Talk, traces: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """One set."""
    began = time.perf_counter()
    talk.say(f"reading {config.data.source}, loading {config.backbone.name}")
    with talk.warnings(), talk.progress("check images", 0) as meter:
        job = open_job(config, out, lambda done, total: meter.at(done, total=total))
    if job.source.skipped:
        names = ", ".join(key for key, _ in job.source.skipped[:5])
        talk.say(f"skipped {len(job.source.skipped)} images that cannot be read: {names}")
    if (line := cache_line(job)) and not dry_run:
        talk.say(line)
    chunks = job.chunks
    if only:
        chosen = [job.chunks_with(text) for text in only]
        chunks = tuple({chunk.id: chunk for chunk in itertools.chain(*chosen)}.values())
    for text in traces:
        check_trace(job, text)
    if dry_run:
        with enough_memory("one step"):
            return dry(job, chunks)
    with talk.warnings(), talk.progress(f"distil {out}", 0) as meter:
        pace, store = Pace(), None
        for event in job.render(chunks):
            if event.note:
                talk.say(event.note)
            meter.at(event.chunk * event.steps + event.step, pace.of(event), total=event.chunks * event.steps)
            if event.step == event.steps:
                store = store or Store.open(out)
                show_last(store, event.units)
    for text in traces:
        with talk.progress(f"trace {text}", 0) as meter:
            for done, total in trace(job, text):
                meter.at(done, total=total)
    record = summary(job, time.perf_counter() - began)
    return record, f"{out}: {record['images']} images in {duration(record['seconds'])}, digest {record['digest']}"


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
    if reference is None or guidance is None or reference.bank is None:
        return ""
    wanted = reference.shapes(guidance.interval)
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
        f"{sum(len(c.units) for c in chunks)} to make in {len(chunks)} chunks, {cost.micro_batch} rows a pass",
        f"forwards: {cost.rows} rows through the backbone, {cost.real_rows} rows of real images as far as the tap",
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
    guided = sum(acts(job.guided.interval, i, count) for i in taken) if job.guided else 0
    real = 0
    if job.guided is not None and job.reference is not None:
        anchors = [a for a in job.reference.all_anchors(job.guided.interval) if a >= taken[0]]
        real = len(anchors) * sum(job.reference.count(label) for c in chunks for label in {u.label for u in c.units})
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
