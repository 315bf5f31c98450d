"""What passing through the generator costs a set, and what guidance gives back: ImageNette, 32 px, validation part.

    python benchmarks/photograph_passes.py --data PARQUET_FOLDER [--work DIR] [--only PATTERN]

after stage `choose` of `photographs.py imagenette-cpu`, which writes the images it distils from.

`dap` begun half way, from nine tenths of the training split, in every state from which its worth could come, judged on
the last tenth:

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
from dap.distillation import open_job
from dap.pictures import to_uint8
from dap.sampling import trajectory
from photograph_settings import SETTINGS
from photographs import Bench
from record import RESULTS, Results, places

STATES = ("begun at", "passed", "guided", "half moved", "moved")


def states(bench: Bench, ipc: int, seed: int) -> dict[str, Path]:
    """state -> folder of class folders with its images, made where it is not there."""
    folders = {state: bench.work / "passes" / f"{state.replace(' ', '-')}-ipc{ipc}-seed{seed}" for state in STATES}
    done = bench.work / "passes" / f"ipc{ipc}-seed{seed}.done"
    if not done.exists():
        config = bench.config({"name": "dap", "start": 0.5}, ipc, seed, str(bench.work / "fit"))
        job = open_job(config, bench.work / "never-written")
        for chunk in job.chunks:
            start = job.start(chunk)
            assert start is not None
            begun = start.x_0
            *_, guided = trajectory(job.sampler, chunk.units, job.guided, start)
            *_, passed = trajectory(job.sampler, chunk.units, None, start)
            difference = guided.x - passed.x
            moved = {"half moved": begun + difference / 2, "moved": begun + difference}
            found = {"begun at": begun, "passed": passed.x, "guided": guided.x, **moved}
            names = [f"{job.source.class_names[unit.label]}/{unit.index:04d}.png" for unit in chunk.units]
            for state, folder in folders.items():
                write(folder, names, job.backbone.decode(found[state]))
        done.touch()
    return folders


def write(folder: Path, names: list[str], images: Tensor) -> None:
    """PNGs of float images [B, 3, H, W] in [0, 1]."""
    for name, image in zip(names, to_uint8(images), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name)


def table(results: Results) -> str:
    """Markdown, a row each."""
    lines = ["# What passing through the generator costs: ImageNette, 32 px, validation part", ""]
    lines += [f"Measured on {places(results.record)}. `benchmarks/photograph_passes.py`.", ""]
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
    kept = Results("photograph_passes")
    about = {"setting": SETTINGS["imagenette-cpu"], "data": given.data, "work": given.work, "device": "cpu"}
    trials = Bench(**about, results=Results("photographs_imagenette-cpu"))
    held = split_validation(trials.train, 0.1)[1]
    for network, ipc, seed, state in product(("convnet-3",), (10, 50), (100, 101), STATES):
        row_key = f"{network} | {state} | {ipc} | {seed}"
        if any(fnmatchcase(row_key, pattern) for pattern in given.only or ["*"]) and row_key not in kept:
            kept[row_key] = trials.judged(states(trials, ipc, seed)[state], network, held, ipc)
            print(row_key, kept[row_key], flush=True)
            (RESULTS / "photograph_passes.md").write_text(table(kept))
