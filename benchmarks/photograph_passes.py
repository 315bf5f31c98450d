"""What passing through the generator costs a set, and what guidance gives back: ImageNette, 32 px.

    python benchmarks/photograph_passes.py --data PARQUET_FOLDER [--work DIR] [--only PATTERN]

after stage `choose` of `photographs.py imagenette-cpu`, which writes the images it distils from.

`dap` begun half way in every state from which its worth could come: generation seeds from 100 from nine tenths of the
training split, judged on the last tenth; seed 0 from all of it, judged on the test data (after the rule was set):

begun at    the real images at which it begins
passed      these after the same steps with the same noise, unguided
guided      these after the same steps, guided: the set itself
moved       the real images, each moved by the difference between guided and passed: guidance without the generator's
            losses; "half moved" by half of it

Rows 'network | state | IPC | seed' are kept as they are measured in results/photograph_passes.json.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dap.data import split_validation
from dap.distillation import Job, open_job
from dap.pictures import to_uint8
from dap.sampling import trajectory
from dap.types import Chunk
from photograph_settings import SETTINGS
from photographs import Bench
from record import RESULTS, Results, places

VALIDATED = 100  # generation seeds from here on leave the test data alone
STATES = ("begun at", "passed", "guided", "half moved", "moved")


def made(bench: Bench, state: str, ipc: int, seed: int) -> Path:
    """A folder of class folders with the images in that state, made where it is not there."""
    source = str(bench.work / "fit") if seed >= VALIDATED else None
    job = open_job(bench.config("dap", {"name": "dap", "start": 0.5}, ipc, seed, source), bench.work / "never-written")
    folder = bench.work / "passes" / f"{state.replace(' ', '-')}-{job.record['digest']}"
    if not folder.exists():
        making = folder.with_name(folder.name + ".part")
        for chunk in job.chunks:
            names = [f"{job.source.class_names[unit.label]}/{unit.index:04d}.png" for unit in chunk.units]
            write(making, names, job.backbone.decode(latents(job, chunk, state)))
        making.rename(folder)
    return folder


def latents(job: Job, chunk: Chunk, state: str) -> Tensor:
    """x_0 of a chunk's images in that state."""
    start = job.start(chunk)
    assert start is not None
    if state == "begun at":
        return start.x_0
    *_, passed = trajectory(job.sampler, chunk.units, None, start)
    if state == "passed":
        return passed.x
    *_, guided = trajectory(job.sampler, chunk.units, job.guided, start)
    share = {"moved": 1.0, "half moved": 0.5}.get(state)
    return guided.x if share is None else start.x_0 + share * (guided.x - passed.x)


def write(folder: Path, names: list[str], images: Tensor) -> None:
    """PNGs of float images [B, 3, H, W] in [0, 1]."""
    for name, image in zip(names, to_uint8(images), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name)


def table(results: Results) -> str:
    """Markdown, a row each."""
    lines = ["# What passing through the generator costs: ImageNette, 32 px", ""]
    lines += [f"Measured on {places(results.record)}. `benchmarks/photograph_passes.py`.", ""]
    lines += ["Seeds from 100: the validation part; seed 0: test data.", ""]
    lines += ["| network | state of the images | IPC | seed | last % |", "|---|---|--:|--:|--:|"]
    rows = results.record["rows"].items()
    lines += ["| " + " | ".join((*key.split(" | "), f"{100 * row['last']:.1f}")) + " |" for key, row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="parquet folder with train and test")
    parser.add_argument("--work", type=Path, default=Path("runs/photographs/imagenette-cpu"))
    parser.add_argument("--only", action="append", metavar="PATTERN", help="rows 'network | state | IPC | seed'")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = Results("photograph_passes", script="benchmarks/photograph_passes.py")
    about = {"setting": SETTINGS["imagenette-cpu"], "data": given.data, "work": given.work, "device": "cpu"}
    trials = Bench(**about, results=Results("photographs_imagenette-cpu"))
    held = split_validation(trials.train, 0.1)[1]
    for network, ipc, seed, state in product(("convnet-3",), (10, 50), (100, 101, 0), STATES):
        row_key = f"{network} | {state} | {ipc} | {seed}"
        if any(fnmatchcase(row_key, pattern) for pattern in given.only or ["*"]) and row_key not in kept:
            judges = held if seed >= VALIDATED else trials.test
            kept[row_key] = trials.judged(made(trials, state, ipc, seed), network, judges, ipc)
            print(row_key, kept[row_key], flush=True)
            (RESULTS / "photograph_passes.md").write_text(table(kept))
