"""What guidance costs on the digits at IPC 10, as ratios measured pair by pair in one process.

    python benchmarks/cost.py [--pairs 3] [--cfg 1.5]

whole      guided sampling / unguided sampling of all 100 images, 50 DDPM steps, classifier-free guidance on,
           with all real images of a class and with 32 of them, for the preset's interval [0.5, 1] and, with all real
           images, for the whole trajectory; the encoding of the real images included
literal    one class of 10 images, a few steps: Algorithm 1 to the letter (the real features recomputed for every image
           at every step, one forward for the features and one for eps) / ours
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dap.config import load_config
from dap.distillation import Job, open_job
from dap.sampling import trajectory
from dap.types import Chunk
from record import RESULTS, Results

STEPS = 50


def job_of(cfg: float, guidance: dict[str, Any], steps: int = STEPS) -> Job:
    """A fresh job, so that nothing of an earlier run is kept."""
    config = load_config(
        data={"source": "digits:train"},
        backbone={"cfg_scale": cfg},
        sampling={"steps": steps},
        guidance=guidance,
        run={"ipc": 10},
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
    """Guided / unguided, with all real images and with 32."""
    cases: dict[str, dict[str, Any]] = {
        "all real images": {},
        "32 real images": {"reference_size": 32},
        "all real images, interval [0, 1]": {"interval": [0.0, 1.0]},
    }
    for name, options in cases.items():
        key = f"whole, {name}, cfg {cfg}"
        if key in results:
            continue
        guidance = {"name": "dap", **options}
        sample_all(job_of(cfg, {"name": "none"}, 3))
        rows = []
        for _ in range(pairs):
            plain, guided = job_of(cfg, {"name": "none"}), job_of(cfg, guidance)
            rows.append([seconds_of(lambda job=plain: sample_all(job)), seconds_of(lambda job=guided: sample_all(job))])
            print(key, rows[-1], flush=True)
        results[key] = summary(rows)


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cfg", type=float, default=1.5)
    arguments = parser.parse_args()
    kept = Results("cost", steps=STEPS, ipc=10)
    against_literal(kept, arguments.pairs, arguments.cfg)
    whole(kept, arguments.pairs, arguments.cfg)
    lines = ["# Cost of guidance on the digits, IPC 10", "", f"{kept.record['machine']}, {kept.record['date']}", ""]
    lines += ["| what | median ratio | all ratios |", "|---|--:|---|"]
    for name, row in kept.record["rows"].items():
        lines.append(f"| {name} | {row['median_ratio']:.2f} | {', '.join(f'{r:.2f}' for r in row['ratios'])} |")
    (RESULTS / "cost.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
