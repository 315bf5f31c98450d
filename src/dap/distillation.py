"""Distilling: check -> plan -> render the missing chunks -> manifest.

    job = open_job(config, out)        everything that can fail is checked here, before any sampling
    for event in job.render(): ...     one event a reverse step; chunks are committed as they finish
                                       and the manifest and the dataset card follow

`distill` does all three. Run it again to go on; another configuration into the same directory is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from dap.backbones import Backbone
from dap.config import Config, require
from dap.data import Source, match_classes, open_dataset
from dap.errors import ConfigError
from dap.guidance import Guidance, load_guidance
from dap.guidance.base import first_of, settled, share_taken
from dap.identity import identity
from dap.memory import Thrift, enough_memory
from dap.pictures import to_uint8
from dap.plan import only, plan_chunks
from dap.reference import Reference
from dap.resolution import backbone_of, decided, real_images, reference_sizes, resolved, sampler_of
from dap.sampling import Guided, Sampler, Start, State, trajectory
from dap.store import Store
from dap.support import candidates, supporting
from dap.types import Chunk, Unit
from dap.watching import Watch


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: `step` of `steps` in chunk number `chunk` of `chunks` that had to be made; images finished so far.

    note      what happened since the last event, once: memory ran out and the chunk began again with less
    distance  mean D_K of the chunk's last class to its real images at the latest guided step; `units` its images
    """

    chunk: int
    chunks: int
    step: int
    steps: int
    images: int
    images_planned: int
    note: str = ""
    distance: float | None = None
    units: tuple[Unit, ...] = ()


@dataclass(frozen=True)
class Job:
    """A checked and planned distillation. `guidance` is None when nothing guides or its scale is zero."""

    config: Config
    out: Path
    source: Source
    backbone: Backbone
    guidance: Guidance | None
    reference: Reference | None
    sampler: Sampler
    chunks: tuple[Chunk, ...]
    record: dict[str, Any]

    @cached_property
    def guided(self) -> Guided | None:
        """The guidance, ready for the loop."""
        if self.guidance is None or self.reference is None:
            return None
        shift = self.guidance.prepare(self.backbone, self.reference)
        return Guided(shift=shift, tap=self.guidance.tap, interval=self.guidance.interval)

    def sample(self, chunk: Chunk) -> Iterator[State]:
        """The trajectory of one chunk; nothing is written."""
        return trajectory(self.sampler, chunk.units, self.guided, self.start(chunk))

    def thrift(self, guided: Guided | None) -> Thrift:
        """Samples chunks, with less at once when memory runs out."""
        return Thrift(self.sampler, guided, self.reference)

    @property
    def taken(self) -> range:
        """The steps of the chain that are taken: all, or the last share, where the guidance says where to start."""
        count = len(self.sampler.chain.timesteps)
        return range(first_of(count, share_taken(self.guidance)), count)

    def start(self, chunk: Chunk) -> Start | None:
        """The images that the guidance gives to start from; None: noise."""
        share, starts = share_taken(self.guidance), getattr(self.guidance, "starts", None)
        if share == 1 or starts is None:
            return None
        return Start(x_0=starts(self.reference, chunk.units), strength=share)

    def store(self) -> Store:
        """The output directory, created or gone on with. Raises StoreError when it cannot be used."""
        return Store.create(self.out, self.record, self.chunks, self.sampler.micro_batch)

    def render(self, chunks: tuple[Chunk, ...] | None = None) -> Iterator[Event]:
        """Makes and commits what is missing of `chunks` (None: of the whole plan), an event after every step."""
        store = self.store()
        missing = store.missing(self.chunks if chunks is None else chunks)
        total = store.planned
        made = total - sum(len(chunk.units) for chunk in store.missing())
        if self.reference is not None and self.reference.bank is not None and missing:
            self.reference.bank.prepare()
        watch = Watch(self.reference)
        thrift, first, steps = self.thrift(watch.around(self.guided)), self.taken.start, len(self.taken)
        for number, chunk in enumerate(missing):
            began, state, told = time.perf_counter(), None, len(thrift.notes)
            for state in thrift.sample(chunk, partial(self.start, chunk)):
                if state.index + 1 < state.count:
                    note, told = "; ".join(thrift.notes[told:]), len(thrift.notes)
                    seen = watch.distance, chunk.units
                    yield Event(number, len(missing), state.index + 1 - first, steps, made, total, note, *seen)
            if state is None:
                raise AssertionError("a chain has at least one step")
            with enough_memory("decoding the images"):
                images = torch.cat([self.backbone.decode(x) for x in state.x.split(self.sampler.micro_batch)])
            notes = {"notes": thrift.notes} if thrift.notes else {}
            store.commit(chunk, to_uint8(images), self._facts(began) | notes)
            made += len(chunk.units)
            note = "; ".join(thrift.notes[told:])
            seen = watch.distance, chunk.units
            yield Event(number, len(missing), steps, steps, made, total, note, *seen)
        store.finish()

    def _facts(self, began: float) -> dict[str, Any]:
        """What a commit marker says besides its files."""
        return {"seconds": round(time.perf_counter() - began, 3), "device": self.backbone.device.type}

    def chunks_with(self, text: str) -> tuple[Chunk, ...]:
        """The chunks that `--only CLASS` or `CLASS:INDEX` means. Raises ConfigError for what is not planned."""
        names = self.source.class_names
        name, colon, index = text.rpartition(":")
        if text in names:
            return only(self.chunks, names.index(text))
        if colon and name in names and index.isdigit():
            if int(index) >= self.config.run.ipc:
                last = self.config.run.ipc - 1
                raise ConfigError(f"{text!r} is not in the plan: class {name!r} has the images 0 to {last}")
            return only(self.chunks, names.index(name), int(index))
        raise ConfigError(f"--only {text!r}: write CLASS or CLASS:INDEX with a class such as {names[0]!r}")


def open_job(config: Config, out: str | Path, on_check: Callable[[int, int], None] | None = None) -> Job:
    """Checks data, classes, backbone, guidance and output directory, and plans; samples nothing, writes nothing.

    on_check  called with (real images read, real images in all) while they are checked

    Raises: ConfigError, DataError, BackboneError, StoreError, each with what to type.
    """
    guidance = load_guidance(config.guidance)
    guidance = None if guidance is None or getattr(guidance, "off", False) else guidance
    data = config.data
    source = open_dataset(data.source, split=data.split, subset=data.subset)
    backbone = backbone_of(config, source.class_names)
    classes = match_classes(source.class_names, backbone.class_names, data.class_map)
    everything = source.counts
    if guidance is not None:
        guidance = settled(guidance.resolved(backbone), backbone, config.run.ipc, config.sampling.steps)
        _check_start(guidance)
        size = reference_sizes(guidance, config.run.ipc)
        source, bad = _checked(real_images(source, config, backbone), size, data.on_bad_image, on_check)
        everything = tuple(a - b for a, b in zip(everything, bad, strict=True))
    out = Path(out).expanduser()
    couples = guidance is not None and guidance.couples
    config = resolved(config, backbone, out, source.class_names, couples)
    sampler = sampler_of(config, backbone, classes, source.class_names)
    reference = None
    if guidance is not None:
        guidance, reference = decided(config, backbone, guidance, sampler, source)
    record = identity(config, source, backbone, guidance, classes)
    record["real_images"]["counts"] = list(everything)  # all there were, "used" or not
    chunks = plan_chunks(
        source.class_names,
        config.run.ipc,
        config.run.seed,
        chunk=config.run.chunk or 1,
        whole_classes=couples,
        done=Store.check(out, record),
    )
    return Job(config, out, source, backbone, guidance, reference, sampler, chunks, record)


def _check_start(guidance: Guidance) -> None:
    share = share_taken(guidance)
    require(0 < share <= 1, f"guidance.start is {share}; use above 0 to 1 (all steps, begun at noise)")
    given = share == 1 or hasattr(guidance, "starts")
    require(given, f"guidance.start is {share}, but this guidance gives no images to start from (`starts`)")


def _checked(
    source: Source,
    size: tuple[int | None, int | None],
    on_bad_image: str,
    on_check: Callable[[int, int], None] | None,
) -> tuple[Source, tuple[int, ...]]:
    """(the images that stand for each class, among those that can be read; how many of a class cannot be)."""
    pooled = candidates(source, *size)
    checked = pooled.checked(on_bad_image, on_check)
    return supporting(checked, *size), tuple(a - b for a, b in zip(pooled.counts, checked.counts, strict=True))


def distill(config: Config, out: str | Path, progress: Callable[[Event], None] | None = None) -> dict[str, Any]:
    """Distils a dataset into `out`; run it again to go on.

    progress  called after every reverse step
    returns   {"out", "images", "digest", "seconds"}

    Raises: what `open_job` raises, and SamplingError when numbers are no longer finite.
    """
    began = time.perf_counter()
    job = open_job(config, out)
    for event in job.render():
        if progress is not None:
            progress(event)
    return summary(job, time.perf_counter() - began)


def summary(job: Job, seconds: float) -> dict[str, Any]:
    """What `dap distill --json` prints: {"out", "images", "digest", "seconds"}, all images of the set counted."""
    images = Store.open(job.out).images
    return {
        "out": str(job.out),
        "images": images,
        "digest": job.record["digest"],
        "seconds": round(seconds, 3),
    }
