"""The preset does not collapse a class on the real backbone; a pull of each image alone, strong enough, does."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dap.config import load_config
from dap.distillation import Job, open_job
from dap.metrics.scores import Real, vendi

CLASS = 3


def job_of(guidance: dict[str, Any], out: Path, ipc: int = 10) -> Job:
    options = {"sampling": {"steps": 30}, "run": {"ipc": ipc, "chunk": ipc}}
    config = load_config(data={"source": "digits:train"}, guidance=guidance, **options)
    return open_job(config, out)


def final(job: Job) -> Tensor:
    (chunk,) = job.chunks_with(str(CLASS))
    state = list(job.sample(chunk))[-1]
    return state.x[[u.label == CLASS for u in chunk.units]].flatten(1)


def test_five_images_of_the_preset_are_as_diverse_as_five_real_ones(tmp_path: Path) -> None:
    job = job_of({"name": "dap"}, tmp_path / "never-written", ipc=5)
    assert job.reference is not None
    real = job.reference.latents(CLASS).flatten(1)
    known = Real.of(real.numpy())
    draws = [torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:5] for seed in range(20)]
    normal = sum(vendi(real[rows], known.centre, known.bandwidth) for rows in draws) / len(draws)
    assert vendi(final(job), known.centre, known.bandwidth) > 0.9 * normal


def test_the_preset_keeps_the_diversity_of_real_images_where_the_pull_alone_loses_it(tmp_path: Path) -> None:
    alone = {"name": "dap", "strength": 0.5, "repulsion": 0.0, "reference": "class"}
    pulled, preset = (job_of(g, tmp_path / "never-written") for g in (alone, {"name": "dap"}))
    assert pulled.reference is not None
    real = pulled.reference.latents(CLASS).flatten(1)
    known = Real.of(real.numpy())
    few = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:10]]
    normal = vendi(few, known.centre, known.bandwidth)
    collapsed, kept = (vendi(final(job), known.centre, known.bandwidth) for job in (pulled, preset))
    assert kept > 0.9 * normal
    assert collapsed < 0.7 * normal
