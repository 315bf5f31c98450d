"""How one image came about, with and without guidance from the same start; stored with the set, read by the report.

    trace/<class>/00007.json            steps: [{"step", "t", "guided", "unguided"}], the distances D_K along the way
    trace/<class>/00007-guided.png      the estimates of x_0 at these steps, side by side, the finished image last
    trace/<class>/00007-unguided.png    the same without guidance; alone when the set was made without

    x_0 estimate = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)
    D_K          = mean distance of phi(x_t, t) to the real images' features at the same noise level

The chunk of the image is sampled again; the loop is only watched, each step that is kept costs one more forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dap.disk import refusals, write_json
from dap.distillation import Job
from dap.errors import ConfigError
from dap.kernels import distance, make_kernel
from dap.pictures import grid, save_png, to_uint8
from dap.reference import Reference
from dap.resolution import real_images
from dap.sampling import State, trajectory, with_cfg
from dap.trace_files import trace_files
from dap.types import Chunk, Unit

FRAMES = 10


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One kept step: its place in the chain, the estimate of x_0 in pixels [c, H, W], and D_K (None at the end)."""

    step: int
    t: int
    image: Tensor
    distance: float | None


def trace(job: Job, text: str) -> Iterator[tuple[int, int]]:
    """Follows the image `CLASS:INDEX` and stores what is seen; yields (steps done, steps in all).

    The job's directory must exist: its images are made first. Raises: ConfigError for what is no image of the plan.
    """
    unit = check_trace(job, text)
    chunk = next(chunk for chunk in job.chunks if unit in chunk.units)
    view = _View(job, unit)
    paths: dict[str, Iterator[State]] = {
        "unguided": trajectory(job.sampler, [unit], None, job.start(Chunk(chunk.id, (unit,))))
    }
    if job.guided is not None:
        paths = {"guided": job.sample(chunk), **paths}
    seen: dict[str, list[Frame]] = {}
    total, done = len(paths) * len(job.taken), 0
    for name, states in paths.items():
        row = chunk.units.index(unit) if name == "guided" else 0
        seen[name] = []
        for state in states:
            done += 1
            frame = view.of(state, row)
            seen[name] += [frame] if frame is not None else []
            yield done, total
    _write(job, unit, seen, view)


def check_trace(job: Job, text: str) -> Unit:
    """The one image that CLASS:INDEX means. Raises: ConfigError for what is no image of the plan."""
    name, colon, index = text.rpartition(":")
    if not (colon and index.isdigit() and name in job.source.class_names):
        known = job.source.class_names[0]
        raise ConfigError(f"--trace {text!r}: write CLASS:INDEX with a class and an image, such as {known}:0")
    label = job.source.class_names.index(name)
    chunks = job.chunks_with(text)
    return next(u for c in chunks for u in c.units if (u.label, u.index) == (label, int(index)))


class _View:
    """Looks at one row of a trajectory after the steps that are kept."""

    def __init__(self, job: Job, unit: Unit) -> None:
        self.job, self.unit = job, unit
        last = len(job.taken) - 1
        evenly = (round(k * last / (FRAMES - 1)) for k in range(FRAMES))
        self.kept = {job.taken[k] for k in evenly} if last >= FRAMES else set(job.taken)
        self.tap: str = getattr(job.guidance, "tap", None) or job.backbone.default_tap
        self.kernel: str = getattr(job.guidance, "kernel", "linear")
        self.reference = _reference(job)

    @torch.no_grad()
    def of(self, state: State, row: int) -> Frame | None:
        """The row after this step, None when it is not kept."""
        if state.index not in self.kept:
            return None
        sampler, x = self.job.sampler, state.x[row : row + 1]
        if state.index + 1 == state.count:
            return Frame(step=state.count, t=0, image=to_uint8(self.job.backbone.decode(x))[0], distance=None)
        step, t = state.index + 1, sampler.chain.timesteps[state.index + 1]
        condition = sampler.backbone.condition([sampler.classes[self.unit.label]], [self.unit.index])
        given = sampler.backbone.predict(x, t, condition, self.tap)
        x_0 = sampler.chain.clean(x, with_cfg(sampler, x, t, given.eps), t)
        picture = to_uint8(self.job.backbone.decode(x_0))[0]
        return Frame(step=step, t=t, image=picture, distance=self._distance(given.features, step))

    def _distance(self, features: Tensor | None, step: int) -> float | None:
        if features is None:
            return None
        real = next(self.reference.parts(self.unit.label, step))
        centre = real.mean(0) if self.kernel != "cosine" else 0
        kernel = make_kernel(self.kernel, real - centre, getattr(self.job.guidance, "bandwidth", None))
        return float(distance(kernel, self.reference.pooling.rows(features) - centre, real - centre).mean())


def _reference(job: Job) -> Reference:
    """The job's real images; those of an unguided job are brought into the backbone's format first."""
    if job.reference is not None:
        return job.reference
    source = real_images(job.source, job.config, job.backbone)
    s = job.sampler
    return Reference(job.backbone, source, s.classes, s.chain, tap=job.backbone.default_tap, rows=s.micro_batch)


def _write(job: Job, unit: Unit, seen: dict[str, list[Frame]], view: _View) -> None:
    store = job.store()
    files = trace_files(store.folders[unit.label], unit.index)
    with refusals(job.out):
        for name, frames in seen.items():
            save_png(_strip(frame.image for frame in frames), job.out / files[name])
        write_json(job.out / files["record"], _record(job, unit, seen, view))


def _strip(images: Iterable[Tensor]) -> Any:
    frames = torch.stack(list(images))
    return grid(frames, len(frames), gap=0)


def _record(job: Job, unit: Unit, seen: dict[str, list[Frame]], view: _View) -> dict[str, Any]:
    first = next(iter(seen.values()))
    steps: list[dict[str, Any]] = [{"step": frame.step, "t": frame.t} for frame in first]
    for name, frames in seen.items():
        for row, frame in zip(steps, frames, strict=True):
            row[name] = frame.distance
    return {
        "class": job.source.class_names[unit.label],
        "index": unit.index,
        "seed": unit.seed,
        "tap": view.tap,
        "pool": view.reference.pooling.pool,
        "kernel": view.kernel,
        "count": len(job.sampler.chain.timesteps),
        "interval": None if job.guidance is None else list(job.guidance.interval),
        "real_images": view.reference.count(unit.label),
        "steps": steps,
    }
