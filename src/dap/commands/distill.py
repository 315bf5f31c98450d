"""`dap distill`: one set or several seeds of it, whole or in part."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dap.commands.dry_run import cache_line, dry
from dap.commands.live import Pace, guided_steps, show_last
from dap.config import Config
from dap.distillation import Event, Job, open_job, summary
from dap.errors import ConfigError, OtherSettingsError, StoreError
from dap.guidance import PRESETS, load_guidance
from dap.guidance.options import START
from dap.memory import enough_memory
from dap.reporting.reproduce import distill_words, evaluate_words, how_words
from dap.store import Store
from dap.terminal import Talk, counted, duration, saving
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
    with saving(lambda: saved(out.expanduser())):
        return _run_one(config, out, only, dry_run, talk, traces)


def _run_one(
    config: Config, out: Path, only: list[str], dry_run: bool, talk: Talk, traces: Sequence[str]
) -> tuple[dict[str, Any], str]:
    began = time.perf_counter()
    load_guidance(config.guidance)  # a wrong name is told before anything is said to be read
    talk.say(f"reading {config.data.source}, loading {config.backbone.name}")
    with talk.warnings(), talk.progress("check images", 0) as meter:
        try:
            job = open_job(config, out, lambda done, total: meter.at(done, total=total))
        except OtherSettingsError as refused:
            its_own = shlex.join([*distill_words(refused.config["config"], str(out)), *how_words(config)])
            raise StoreError(f"{refused}, which are {its_own}") from None
    if job.source.skipped:
        names = ", ".join(key for key, _ in job.source.skipped[:5])
        talk.say(f"skipped {len(job.source.skipped)} images that cannot be read: {names}")
    for line in filter(None, [*remarks(job), "" if dry_run else cache_line(job)]):
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
    made = render(job, chunks, talk, whole_chunks(job, only, chunks))
    for text in traces:
        with talk.progress(f"trace {text}", 0) as meter:
            for done, total in trace(job, text):
                meter.at(done, total=total)
    record = summary(job, time.perf_counter() - began)
    planned = sum(len(chunk.units) for chunk in job.chunks)
    of = "" if record["images"] == planned else f" of {planned}"
    images, digest = f"{record['images']}{of} images", record["digest"]
    if not made:
        return record, f"{out}: {'nothing was missing' if only else 'complete already'}, {images}, digest {digest}"
    return record, f"{out}: {images} in {duration(record['seconds'])}, digest {digest}"


def whole_chunks(job: Job, only: Sequence[str], chunks: Sequence[Chunk]) -> str:
    """A line where more is made than was asked for, "" where not."""
    made, names = sum(len(chunk.units) for chunk in chunks), job.source.class_names
    asked = sum(job.config.run.ipc if text in names else 1 for text in set(only))
    return f"--only makes {made} images here: chunks are made whole" if only and made > asked else ""


def remarks(job: Job) -> list[str]:
    """What a user may not expect of this distillation, a line each."""
    guidance, ipc, out = job.config.guidance, job.config.run.ipc, []
    counts = zip(job.record["real_images"]["counts"], job.source.class_names, strict=True)
    few = [(count, name) for count, name in counts if count < ipc]
    if few:
        count, name = min(few)
        more = f" (and {counted(len(few) - 1, 'other')})" if len(few) > 1 else ""
        out.append(f"more images than there are real ones: class {name!r} has {count}{more}, --ipc asks for {ipc}")
    if guidance.name == "dap-paper" and not {"gamma", "strength"} & guidance.options.keys():
        out.append(
            "dap-paper moves images by gamma = 1, the paper's for DiT-XL/2 at 256 px; every other backbone wants its "
            "own: the digits --set guidance.gamma=0.2 at one image a class, 0.02 at ten"
        )
    steps = len(job.sampler.chain.timesteps)
    if len(job.taken) < START * steps:
        is_open = getattr(load_guidance(guidance), "start", None) == "auto"
        why = f" (guidance.start=auto: {ipc} images a class, a backbone trained from nothing)" if is_open else ""
        several = min(job.source.counts) < ipc
        shared = ", several at the same one where a class has fewer" if several else ""
        farther = "; --set guidance.start=0.5 moves them farther, which so weak a backbone may spoil" if is_open else ""
        out.append(
            f"images begin at real ones and take the last {len(job.taken)} of {steps} steps{why}{shared}: "
            f"expect near-copies of these, which dap measure counts{farther}"
        )
    late = "start" in PRESETS.get(guidance.name, {}) and "start" not in guidance.options
    if job.guidance is not None and late and len(job.taken) == steps > 1:
        out.append(f"guidance.interval begins before {1 - START:g}: all {steps} steps are taken, from noise")
    if job.guidance is not None and not any(guided_steps(job)):
        out.append(
            f"no step is guided: {counted(len(job.taken), 'step')} taken, none in guidance.interval "
            f"{list(job.guidance.interval)}; use more --set sampling.steps, or another interval or start"
        )
    if guidance.options.get("tap") == "auto" and job.guidance is not None:
        out.append(f"tap auto: {job.guidance.tap}")
    return out


def render(job: Job, chunks: tuple[Chunk, ...], talk: Talk, remark: str = "") -> bool:
    """Makes what is missing of the chunks, drawing progress; whether anything was, and only then the remark is said."""
    made, store, pace = False, None, Pace(guided_steps(job))
    with talk.warnings(), talk.progress(f"distil {job.out}", 0) as meter:
        for event in job.render(chunks):
            if not made:
                begin(job.out, event, talk, remark)
            made, said = True, pace.of(event)
            if event.note:
                talk.say(event.note)
            done, total = event.chunk * event.steps + event.step, event.chunks * event.steps
            meter.at(done, said, total=total, left=pace.left(event))
            if event.step == event.steps:
                store = store or Store.open(job.out)
                show_last(store, event.units)
    return made


def begin(out: Path, event: Event, talk: Talk, remark: str) -> None:
    """With the first step: what is there already, and the remark."""
    there = event.images - (len(event.units) if event.step == event.steps else 0)
    going_on = f"going on: {there} of {event.images_planned} images of {out} are there" if there else ""
    for line in filter(None, (going_on, remark)):
        talk.say(line)


def saved(out: Path) -> str:
    """What of a set is on the disk, for whoever interrupts."""
    try:
        store = Store.open(out)
    except StoreError:
        return "nothing was saved yet"
    return f"{store.images} of {store.planned} images of {out} are saved" if store.images else "nothing was saved yet"


def next_words(outs: Sequence[str], config: Config, test: str, seeds: str | None = None) -> list[str]:
    """What to type after a distillation: make what is missing of a set, or judge all beside as many random real images.

    config  of the command, for what a set does not record; seeds  where there are several sets, below one folder
    """
    stores = [Store.open(out) for out in outs]
    for out, store in zip(outs, stores, strict=True):
        if store.images < store.planned:
            words = distill_words(store.config["config"], out if seeds is None else str(Path(out).parent))
            if seeds is not None:
                at = words.index("--seed")
                words[at : at + 2] = ["--seeds", seeds]
            return [*words, *how_words(config)]
    return evaluate_words(outs, stores, test)
