"""Distilling: check -> plan -> render the missing chunks -> manifest.

    job = open_job(config, out)        everything that can fail is checked here, before any sampling
    for event in job.render(): ...     one event a reverse step; chunks are committed as they finish
    job.finish()                       manifest and dataset card

`distill` does all three. Run it again to go on; another configuration into the same directory is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dap.backbones import Backbone, default_micro_batch, open_backbone, read_prompts
from dap.config import Config, as_record, digest, require
from dap.data import Source, match_classes, open_dataset
from dap.errors import ConfigError
from dap.guidance import Guidance, load_guidance
from dap.pictures import to_uint8
from dap.plan import only, plan_chunks
from dap.record import versions
from dap.reference import Reference
from dap.sampling import Guided, Sampler, Start, State, trajectory
from dap.store import Store
from dap.types import Chunk

REFERENCE_ROWS = 4  # micro-batches of real images in one forward pass: no gradient, so more fit


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: `step` of `steps` in chunk number `chunk` of `chunks` that had to be made; images finished so far."""

    chunk: int
    chunks: int
    step: int
    steps: int
    images: int
    images_planned: int


@dataclass(frozen=True)
class Job:
    """A checked and planned distillation. `guidance` is None when nothing guides or its scale is zero."""

    config: Config
    out: Path
    source: Source
    backbone: Backbone
    guidance: Guidance | None
    sampler: Sampler
    chunks: tuple[Chunk, ...]
    record: dict[str, Any]

    @cached_property
    def reference(self) -> Reference:
        """The real images, seen through this job's backbone and chain."""
        return Reference(
            self.backbone,
            self.source,
            self.sampler.classes,
            self.sampler.chain,
            seed=self.config.run.seed,
            rows=REFERENCE_ROWS * self.sampler.micro_batch,
        )

    @cached_property
    def guided(self) -> Guided | None:
        """The guidance, ready for the loop."""
        if self.guidance is None:
            return None
        shift = self.guidance.prepare(self.backbone, self.reference)
        return Guided(shift=shift, tap=self.guidance.tap, interval=self.guidance.interval)

    def sample(self, chunk: Chunk) -> Iterator[State]:
        """The trajectory of one chunk; nothing is written."""
        start, starts = self.config.sampling.start, getattr(self.guidance, "starts", None)
        begin = Start(x_0=starts(self.reference, chunk.units), strength=start) if start and starts else None
        return trajectory(self.sampler, chunk.units, self.guided, begin)

    def store(self) -> Store:
        """The output directory, created or gone on with. Raises StoreError when it cannot be used."""
        return Store.create(self.out, self.record, self.chunks, self.sampler.micro_batch)

    def render(self, chunks: tuple[Chunk, ...] | None = None) -> Iterator[Event]:
        """Makes and commits what is missing of `chunks` (None: of the whole plan), an event after every step."""
        store = self.store()
        missing = store.missing(self.chunks if chunks is None else chunks)
        total = store.planned
        made = total - sum(len(chunk.units) for chunk in store.missing())
        for number, chunk in enumerate(missing):
            began, state = time.perf_counter(), None
            for state in self.sample(chunk):
                if state.index + 1 < state.count:
                    yield Event(number, len(missing), state.index + 1, state.count, made, total)
            if state is None:
                raise AssertionError("a chain has at least one step")
            images = torch.cat([self.backbone.decode(x) for x in state.x.split(self.sampler.micro_batch)])
            store.commit(chunk, to_uint8(images), {"seconds": round(time.perf_counter() - began, 3)})
            made += len(chunk.units)
            yield Event(number, len(missing), state.count, state.count, made, total)
        store.finish()

    def chunks_with(self, text: str) -> tuple[Chunk, ...]:
        """The chunks that `--only CLASS` or `CLASS:INDEX` means. Raises ConfigError for what is not planned."""
        names = self.source.class_names
        name, colon, index = text.rpartition(":")
        if text in names:
            return only(self.chunks, names.index(text))
        if colon and name in names and index.isdigit():
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
    start, model = config.sampling.start, config.backbone
    gives = f"guidance {config.guidance.name!r} gives no images to start from"
    require(start is None or hasattr(guidance, "starts"), f"sampling.start is {start}, but {gives}; leave it out")
    prompts = read_prompts(source.class_names, model.prompt, model.prompts, model.negative_prompt, config.run.ipc)
    backbone = open_backbone(model.name, vae=model.vae, device=model.device, prompts=prompts)
    classes = match_classes(source.class_names, backbone.class_names, data.class_map)
    if guidance is not None:
        guidance = guidance.resolved(backbone)
        limit = getattr(guidance, "reference_size", None)
        source = _real_images(source, config, backbone, limit).checked(data.on_bad_image, on_check)
    config = _resolved(config, backbone)
    sampler = Sampler(
        backbone=backbone,
        chain=backbone.chain(config.sampling.scheduler, config.sampling.steps, config.sampling.eta),
        classes=classes,
        cfg_scale=config.backbone.cfg_scale or 1.0,
        cfg_channels=config.backbone.cfg_channels,
        micro_batch=config.run.micro_batch or 1,
        class_names=source.class_names,
    )
    record = _record(config, source, backbone, guidance, classes)
    out = Path(out).expanduser()
    couples = guidance is not None and guidance.couples
    chunks = plan_chunks(
        source.class_names,
        config.run.ipc,
        config.run.seed,
        chunk=config.run.chunk or 1,
        whole_classes=couples,
        done=Store.check(out, record),
    )
    return Job(config, out, source, backbone, guidance, sampler, chunks, record)


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


def _real_images(source: Source, config: Config, backbone: Backbone, limit: int | None) -> Source:
    """The real images that the guidance sees, in the backbone's format."""
    source = source.with_format(size=backbone.image_size, mode=config.data.mode or backbone.image_mode)
    if source.mode != backbone.image_mode:
        raise ConfigError(f"data.mode is {source.mode!r}, but {backbone.name} works on {backbone.image_mode!r} images")
    if limit is not None:
        source = source.select(limit, config.run.seed)
    return source


def _resolved(config: Config, backbone: Backbone) -> Config:
    """The configuration with everything that was left to the backbone decided."""
    micro_batch = config.run.micro_batch or default_micro_batch(backbone)
    run = replace(config.run, micro_batch=micro_batch, chunk=config.run.chunk or max(50, micro_batch))
    scale = backbone.cfg_scale if config.backbone.cfg_scale is None else config.backbone.cfg_scale
    return replace(config, run=run, backbone=replace(config.backbone, cfg_scale=scale))


def _record(
    config: Config, source: Source, backbone: Backbone, guidance: Guidance | None, classes: tuple[int, ...]
) -> dict[str, Any]:
    """config.json: what determines the pixels (and the digest of that), and what else is worth knowing.

    Device, versions, paths and chunk size do not determine them; IPC does only when images of a class are coupled.
    """
    run: dict[str, Any] = {"seed": config.run.seed, "micro_batch": config.run.micro_batch}
    if guidance is not None and guidance.couples:
        run["ipc"] = config.run.ipc
    prompts = getattr(backbone, "prompts", None)
    chosen = {"name": "none"} if guidance is None else {"name": type(guidance).__name__, **as_record(guidance)}
    determines = {
        "data": {
            "class_names": list(source.class_names),
            "images": None if guidance is None else source.digest,
        },
        "backbone": {
            "weights": backbone.weights_digest(),
            "classes": list(classes),
            "cfg_scale": config.backbone.cfg_scale,
            "cfg_channels": config.backbone.cfg_channels,
            **({"prompts": prompts.record()} if prompts is not None else {}),
        },
        "sampling": {name: value for name, value in as_record(config.sampling).items() if value is not None},
        "guidance": chosen,
        "run": run,
    }
    resolved = {name: as_record(getattr(config, name)) for name in ("data", "backbone", "sampling", "run")}
    return {
        "digest": digest(determines),
        "determines": determines,
        "config": {**resolved, "guidance": {"preset": config.guidance.name, **chosen}},
        "class_names": list(source.class_names),
        "real_images": None if guidance is None else {"counts": list(source.counts), "skipped": list(source.skipped)},
        "versions": versions(),
    }
