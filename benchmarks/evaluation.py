"""Last against best accuracy on photographs: random real images of Imagenette at 64 px, under `hard-small`.

    python benchmarks/evaluation.py --data PARQUET_FOLDER [--epochs-scale 0.05] [--repeats 3] [--evaluations 100]
                                    [--test-images 1000] [--dtype bf16] [--compile] [--work DIR] [--table]

How much the choice of an epoch on the test data flatters: IPC 10 and 50 random real images, ConvNet-4 and ResNetAP-10
at 64 px. A CPU needs shortened epochs and fewer test images, which are drawn once, as many of each class; both are
recorded, and the result is marked scaled. Every training is kept as it ends: the same command goes on.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from dap.config import EvaluationConfig
from dap.data import Source, open_dataset
from dap.evaluation import evaluate
from record import RESULTS, Results

NETWORKS, IPCS = ("convnet-4", "resnetap-10"), (10, 50)


def measure(train: Source, test: Source, config: EvaluationConfig, work: Path, results: Results) -> None:
    """Every row that is missing; a repeat is another training seed on the same draw of images."""
    for network in NETWORKS:
        for ipc in IPCS:
            key = f"{network} | {ipc}"
            if key in results:
                continue
            found = evaluate(
                [replace(train.select(ipc, 0), name="random real")],
                test,
                config=replace(config, networks=(network,)),
                cache=work / "cells",
                progress=lambda done, total, what, key=key: said(key, done, total, what),
            )
            (row,) = found["results"]
            keep = ("last", "best", "evaluations", "steps", "epochs", "parameters", "seconds", "threads", "digest")
            results[key] = {k: row[k] for k in keep}
            print(key, row["last"], row["best"], flush=True)


def said(key: str, done: int, total: int, what: str) -> None:
    """A line for every tenth of the way."""
    if done % max(1, total // 10) == 0:
        print(f"{key}: {done} of {total} steps, {what}", flush=True)


def spread(row: dict[str, Any]) -> str:
    """{"mean", "sd"} in per cent."""
    return f"{100 * row['mean']:.1f}" + ("" if row["sd"] is None else f" ± {100 * row['sd']:.1f}")


def table(results: Results) -> str:
    """Markdown."""
    about = results.record
    lines = [
        "# Random real photographs under `hard-small`: last accuracy against the best of many looks",
        "",
        f"Machine: {about['machine']['processor']}, {about['machine']['cores']} cores."
        f" torch {about['versions']['torch']}. {about['date']}. Script: `benchmarks/evaluation.py`.",
        f"Imagenette, 64 px, {about['test_images']} test images; protocol `hard-small` **scaled** to"
        f" {about['epochs_scale']:g} of its epochs, so these are no results to compare with others'. Mean ± sd over"
        f" {about['repeats']} training seeds on one draw of images. Forward passes in {about['dtype']}"
        f"{', compiled' * about['compile']}.",
        "",
        "| network | IPC | epochs | last % | best % | looks | best - last, points | largest | seconds a run |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key, row in about["rows"].items():
        network, ipc = key.split(" | ")
        gaps = [100 * (b - a) for a, b in zip(row["last"]["values"], row["best"]["values"], strict=True)]
        lines.append(
            f"| {network} | {ipc} | {row['epochs']} | {spread(row['last'])} | {spread(row['best'])} |"
            f" {row['evaluations']} | {statistics.mean(gaps):.1f} | {max(gaps):.1f} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="parquet folder with train and test")
    parser.add_argument("--epochs-scale", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--test-images", type=int, default=1000, help="all when there are no more")
    parser.add_argument("--dtype", default="fp32", help="bf16: autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the networks")
    parser.add_argument("--work", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--table", action="store_true", help="only rewrite the table")
    arguments = parser.parse_args()
    held = open_dataset(f"{arguments.data}:test")
    some = arguments.test_images // len(held.class_names)
    held = held.select(some, 0) if some < min(held.counts) else held
    asked = {"epochs_scale": arguments.epochs_scale, "repeats": arguments.repeats, "evaluations": arguments.evaluations}
    asked |= {"dtype": arguments.dtype, "compile": arguments.compile}
    kept = Results("evaluation", protocol="hard-small", test_images=sum(held.counts), **asked)
    if not arguments.table:
        settings = EvaluationConfig(protocol="hard-small", **asked)
        measure(open_dataset(f"{arguments.data}:train", size=64), held, settings, arguments.work, kept)
    (RESULTS / "evaluation.md").write_text(table(kept))
    print(table(kept))
