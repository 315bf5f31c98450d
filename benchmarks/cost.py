"""What guidance costs on the digits at IPC 10, as ratios measured pair by pair in one process.

    python benchmarks/cost.py [--pairs 3] [--cfg 1.5] [--photos DIR --backbone PIPELINE]

whole      guided sampling / unguided sampling of all 100 images, 50 DDPM steps, classifier-free guidance on; encoding
           the real images included, the choice of support points apart (its seconds are a row of their own)
literal    one class of 10 images, a few steps: Algorithm 1 to the letter (the real features recomputed for every image
           at every step, one forward for the features and one for eps) / ours with all real images at every step
growth     two classes of photographs with all their images / with 100 of each, the whole command's work from opening
           the data to the last step; and the peak memory of both, each in a process of its own
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dap.config import load_config
from dap.data import open_dataset
from dap.distillation import Job, open_job
from dap.sampling import trajectory
from dap.support import supporting
from dap.types import Chunk
from record import RESULTS, Results, places

STEPS = 50


def job_of(cfg: float, guidance: dict[str, Any], steps: int = STEPS, cache: str | None = None) -> Job:
    """A fresh job, so that nothing of an earlier run is kept."""
    config = load_config(
        data={"source": "digits:train"},
        backbone={"cfg_scale": cfg},
        sampling={"steps": steps},
        guidance=guidance,
        run={"ipc": 10, "reference_cache": cache},
    )
    return open_job(config, Path(tempfile.mkdtemp()) / "never-written")


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def sample_all(job: Job) -> None:
    """Every chunk to its end."""
    for chunk in job.chunks:
        for _ in job.sample(chunk):
            pass


def one_class(job: Job, steps: int) -> None:
    """The first class alone, the first steps of its trajectory."""
    chunk = Chunk(0, tuple(u for u in job.chunks[0].units if u.label == 0))
    states = trajectory(job.sampler, chunk.units, job.guided)
    for _ in range(steps):
        next(states)


def literal(job: Job, steps: int) -> None:
    """Algorithm 1 image by image: eps from one forward, features of the image and of all real images from others."""
    backbone, sampler = job.backbone, job.sampler
    units = [u for u in job.chunks[0].units if u.label == 0]
    tap, chain = str(job.guided.tap if job.guided else ""), sampler.chain
    real_0 = job.reference.latents(0)
    for unit in units:
        draw = torch.Generator().manual_seed(unit.seed)
        x_t = torch.randn((1, *backbone.latent_shape), generator=draw)
        for t in chain.timesteps[:steps]:
            condition = backbone.condition([sampler.classes[0]])
            eps = backbone.predict(x_t, t, condition).eps
            null = backbone.predict(x_t, t, backbone.null_condition(1)).eps
            x_prev = chain.step(null + sampler.cfg_scale * (eps - null), t, x_t, [draw])
            noised = chain.noised(real_0, torch.randn(real_0.shape, generator=draw), t)
            conditions = backbone.condition([sampler.classes[0]] * len(noised))
            real = backbone.predict(noised, t, conditions, tap).features
            leaf = x_t.clone().requires_grad_()
            mine = backbone.predict(leaf, t, condition, tap).features
            if mine is None or real is None:
                raise AssertionError("a tap gives features")
            energy = torch.cdist(mine.flatten(1), real.flatten(1)).mean()
            x_t = x_prev - 0.005 * torch.autograd.grad(energy, leaf)[0]


def whole(results: Results, pairs: int, cfg: float) -> None:
    """Guided / unguided: the preset cold and with a warm bank; begun at noise, and what it leaves out."""
    noise = {"start": 1.0}
    cases: dict[str, dict[str, Any]] = {
        "the preset, cold": {},
        "the preset, warm bank": {},
        "the preset from noise, cold": noise,
        "the preset from noise, warm bank": noise,
        "from noise, all real images, cold": {**noise, "reference_size": "all"},
        "from noise, the whole trajectory, cold": {"interval": [0.0, 1.0]},
        "from noise, without repulsion, cold": {**noise, "repulsion": 0.0},
        "from noise, without clusters, cold": {**noise, "reference": "class"},
        "from noise, without clusters, strength 0.3, cold": {**noise, "reference": "class", "strength": 0.3},
        "from noise, all real images at every step of the second half": {
            **noise,
            "reference_size": "all",
            "reference_spacing": 0,
        },
        "dap-paper": {"name": "dap-paper", "gamma": 0.05},
    }
    for name, options in cases.items():
        key = f"whole, {name}, cfg {cfg}"
        if key in results:
            continue
        guidance, cache = {"name": "dap", **options}, None
        if "warm" in name:
            cache = tempfile.mkdtemp()
            sample_all(prepared(job_of(cfg, guidance, cache=cache)))
        sample_all(job_of(cfg, {"name": "none"}, 3))
        rows = []
        for _ in range(pairs):
            plain, guided = job_of(cfg, {"name": "none"}), prepared(job_of(cfg, guidance, cache=cache))
            rows.append([seconds_of(lambda job=plain: sample_all(job)), seconds_of(lambda job=guided: sample_all(job))])
            print(key, rows[-1], flush=True)
        results[key] = summary(rows)


def prepared(job: Job) -> Job:
    """The same, with a bank that may be written."""
    if job.reference is not None and job.reference.bank is not None:
        job.reference.bank.prepare()
    return job


def choosing(results: Results) -> None:
    """Seconds that the support points of all ten classes take, once."""
    key = "choosing 96 support points of each class, seconds"
    if key not in results:
        source = open_dataset("digits:train").with_format(mode="L")
        rows = [seconds_of(lambda: supporting(source, 96)) for _ in range(3)]
        results[key] = {"seconds": rows, "median_seconds": statistics.median(rows)}


def growth(results: Results, pairs: int, photos: str, backbone: str) -> None:
    """All images of two classes / 100 of each: seconds of everything, and peak memory."""
    key = "growth, two classes of photographs, all their images / 100 of each"
    if key in results:
        return
    few, many = (folder_of(photos, count) for count in (100, None))
    sample_photos(few, backbone)  # the first run of a process is slow whatever it does
    rows = []
    for k in range(pairs):
        order = (few, many) if k % 2 else (many, few)
        found = {at: seconds_of(lambda at=at: sample_photos(at, backbone)) for at in order}
        rows.append([found[few], found[many]])
        print(key, rows[-1], flush=True)
    peaks = []
    for at in (few, many):
        command = [sys.executable, __file__, "--backbone", backbone, "--peak", at]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    counts = [sum(1 for _ in Path(at).rglob("*.*")) for at in (few, many)]
    results[key] = {**summary(rows), "images": counts, "peak_bytes": peaks, "memory_ratio": peaks[1] / peaks[0]}


def folder_of(photos: str, count: int | None) -> str:
    """A folder with links to the first `count` images of the first two classes."""
    out = Path(tempfile.mkdtemp())
    for name in sorted(path.name for path in Path(photos).iterdir() if path.is_dir())[:2]:
        (out / name).mkdir()
        for image in sorted((Path(photos) / name).iterdir())[:count]:
            (out / name / image.name).symlink_to(image.resolve())
    return str(out)


def sample_photos(folder: str, backbone: str) -> None:
    """Ten images of each class, the preset, 50 steps."""
    config = load_config(
        data={"source": folder}, backbone={"name": backbone}, sampling={"steps": STEPS}, guidance={"name": "dap"}
    )
    sample_all(open_job(config, Path(tempfile.mkdtemp()) / "never-written"))


def against_literal(results: Results, pairs: int, cfg: float, steps: int = 10) -> None:
    """Literal Algorithm 1 / ours, one class."""
    key = f"literal Algorithm 1 / ours, one class of 10, {steps} steps, cfg {cfg}"
    if key in results:
        return
    ours = {"name": "dap-paper", "gamma": 0.005}
    one_class(job_of(cfg, ours), 2)  # the first forwards of a process are slow for whoever comes first
    rows = []
    for _ in range(pairs):
        one, other = job_of(cfg, ours), job_of(cfg, ours)
        other.reference.latents(0)
        rows.append(
            [seconds_of(lambda job=one: one_class(job, steps)), seconds_of(lambda job=other: literal(job, steps))]
        )
        print(key, rows[-1], flush=True)
    results[key] = summary(rows)


def summary(rows: list[list[float]]) -> dict[str, Any]:
    """[denominator, numerator] seconds of each pair and the median of their ratios."""
    ratios = [b / a for a, b in rows]
    return {"pairs_seconds": rows, "ratios": ratios, "median_ratio": statistics.median(ratios)}


def table(kept: Results) -> str:
    """Markdown: the median of the ratios, and all of them."""
    lines = ["# Cost of guidance on the digits, IPC 10", "", f"Measured on {places(kept.record)}.", ""]
    lines += ["| what | median ratio | all ratios |", "|---|--:|---|"]
    for name, row in kept.record["rows"].items():
        if "ratios" in row:
            memory = f"; peak memory {row['memory_ratio']:.2f}" if "memory_ratio" in row else ""
            ratios = ", ".join(f"{r:.2f}" for r in row["ratios"])
            lines.append(f"| {name}{memory} | {row['median_ratio']:.2f} | {ratios} |")
        else:
            lines.append(f"| {name} | {row['median_seconds']:.2f} s | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cfg", type=float, default=1.5)
    parser.add_argument("--photos", help="a folder of class folders")
    parser.add_argument("--backbone", help="a pipeline of its classes")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        sample_photos(arguments.peak, arguments.backbone)
        status = Path("/proc/self/status").read_text().splitlines()
        print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
        sys.exit()
    kept = Results("cost", steps=STEPS, ipc=10)
    choosing(kept)
    whole(kept, arguments.pairs, arguments.cfg)
    against_literal(kept, arguments.pairs, arguments.cfg)
    if arguments.photos:
        growth(kept, arguments.pairs, arguments.photos, arguments.backbone)
    (RESULTS / "cost.md").write_text(table(kept))
    print(table(kept))
