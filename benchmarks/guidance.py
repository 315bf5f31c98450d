"""The recommended guidance against its rivals on the digits: every IPC, several networks and protocols.

    python benchmarks/guidance.py [--work DIR] [--part tiny|small|resnet] [--seeds 5] [--only METHOD]

tiny    `hard-tiny`, ConvNet-2w64, IPC 1, 2, 5, 10, 20: 5 generation seeds x 2 training seeds
small   `hard-small`, ConvNet-3, IPC 1 and 10: 5 generation seeds x 1 training seed
resnet  `hard-small` scaled .2, ResNetAP-10 (16 px), IPC 1 and 10: 3 generation seeds x 1 training seed; `dap-paper`
        with the gamma that is best at each IPC

Generation seeds 0 .. n-1, which no choice of an option has seen (200 .. 203 were used for those). Sets and rows are
kept as they are made; running it again goes on. benchmarks/results/guidance.md is rewritten after every seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dap.baselines import herding_rows, kmeans_rows
from dap.config import EvaluationConfig, load_config
from dap.data import Source, open_dataset
from dap.distillation import open_job
from dap.evaluation import evaluate
from record import RESULTS, Results, mean_and_error, places

NOISE: dict[str, Any] = {"name": "dap", "start": 1.0}
PLAIN: dict[str, Any] = {**NOISE, "contrast": 0.0}
WHOLE: dict[str, Any] = {**PLAIN, "reference": "class", "repulsion": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "unguided": {"name": "none"},
    "dap-paper, gamma 0.02": {"name": "dap-paper", "gamma": 0.02},
    "dap-paper, gamma 0.05": {"name": "dap-paper", "gamma": 0.05},
    "dap-paper, gamma 0.2": {"name": "dap-paper", "gamma": 0.2},
    "strength 0.3, repulsion 1": {**WHOLE, "strength": 0.3},
    "auto, repulsion 1": WHOLE,
    "auto, RBF-MMD": {**WHOLE, "kernel": "rbf", "power": 2},
    "auto, clusters, repulsion 0": {**PLAIN, "repulsion": 0.0},
    "auto, clusters, repulsion 1": {**PLAIN, "repulsion": 1.0},
    "auto, clusters, repulsion 0.7": {**PLAIN, "repulsion": 0.7},
    "dap, from noise, repulsion 0.7": {**NOISE, "repulsion": 0.7},
    "dap, from noise": NOISE,
    "dap, start 0.5": {"name": "dap", "start": 0.5},
    "dap": {"name": "dap"},
}
REAL = ("random real", "herding, pixels", "k-means, pixels", "k-means, features")
PAPER = {10: "dap-paper, gamma 0.02", 1: "dap-paper, gamma 0.2"}  # the best at each IPC, on seeds 200 to 202
DEFAULT = "dap"
FEW = ("random real", "k-means, pixels", "unguided", *PAPER.values(), DEFAULT)
BOUNDS = ("mean image", "median image")  # of a class, pixel by pixel: what one image can be worth at all
PARTS: dict[str, dict[str, Any]] = {
    "tiny": {"protocol": "hard-tiny", "network": "convnet-2w64", "ipcs": (1, 2, 5, 10, 20), "repeats": 2, "scale": 1.0},
    "small": {"protocol": "hard-small", "network": "convnet-3", "ipcs": (1, 10), "repeats": 1, "scale": 1.0},
    "resnet": {"protocol": "hard-small", "network": "resnetap-10", "ipcs": (1, 10), "repeats": 1, "scale": 0.2},
}


def tap_features(source: Source, label: int) -> torch.Tensor:
    """The real images of a class at the digits' tap and a low noise level (t = 61), without noise: [N, F]."""
    from dap.backbones import open_backbone

    backbone = open_backbone("digits", device="cpu")
    x_0 = backbone.encode(source.images(label).float() / 255)
    return backbone.tap_features(x_0, 61, backbone.condition([label]), backbone.default_tap).flatten(1)


def real_set(method: str, ipc: int, seed: int) -> Source:
    """A choice of real images."""
    source = open_dataset("digits:train").with_format(mode="L")
    if method == "random real":
        return replace(source.select(ipc, seed), name=f"{method} {seed}")
    choose: Mapping[str, Callable[[int], torch.Tensor]] = {
        "herding, pixels": lambda k: herding_rows(source.images(k).flatten(1).float(), ipc),
        "k-means, pixels": lambda k: kmeans_rows(source.images(k).flatten(1).float(), ipc, seed),
        "k-means, features": lambda k: kmeans_rows(tap_features(source, k), ipc, seed),
    }
    keys = tuple(tuple(source.keys[k][i] for i in choose[method](k).tolist()) for k in range(len(source.keys)))
    return replace(source, keys=keys, name=f"{method} {seed}")


def bound_set(method: str, work: Path) -> Path:
    """One picture a class, made of all its real images."""
    from PIL import Image

    source, out = open_dataset("digits:train").with_format(mode="L"), work / method.replace(" ", "-")
    for label, name in enumerate(source.class_names):
        images = source.images(label).float()
        made = images.mean(0) if method == "mean image" else images.median(0).values
        (out / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[0].round().byte().numpy()).save(out / name / "0.png")
    return out


def generated(work: Path, method: str, ipc: int, seed: int) -> Path:
    """The distilled set of a method; real features are kept beside the sets for the others."""
    out = work / f"{''.join(c if c.isalnum() else '-' for c in method)}-ipc{ipc}-seed{seed}"
    run = {"ipc": ipc, "seed": seed, "reference_cache": str(work / "features")}
    job = open_job(load_config(None, data={"source": "digits:train"}, guidance=METHODS[method], run=run), out)
    for _ in job.render():
        pass
    return out


def set_of(method: str, ipc: int, seed: int, work: Path) -> Source | Path:
    """What is judged."""
    if method in REAL:
        return real_set(method, ipc, seed)
    return bound_set(method, work) if method in BOUNDS else generated(work, method, ipc, seed)


def measure(part: str, seed: int, work: Path, results: Results, only: str | None = None) -> None:
    """All rows of one seed that are missing, of every method or of one."""
    how, methods = PARTS[part], (*REAL, *METHODS, *BOUNDS) if part == "tiny" else FEW
    for method in methods if only is None else (only,):
        for ipc in (1,) if method in BOUNDS else how["ipcs"]:
            key = f"{part} | {method} | {ipc} | {seed}"
            if key in results or (seed and method in ("herding, pixels", *BOUNDS)):  # these have nothing to draw
                continue
            if part == "resnet" and method in PAPER.values() and method != PAPER[ipc]:
                continue
            data = set_of(method, ipc, seed, work)
            config = EvaluationConfig(
                protocol=how["protocol"],
                networks=(how["network"],),
                repeats=how["repeats"],
                epochs_scale=how["scale"],
                flip=False,
                evaluations=1,  # the last accuracy is the same to the bit, however often one looks before
            )
            found = evaluate([data], "digits:test", config=config)["results"][0]["last"]["values"]
            results[key] = found
            print(key, found, flush=True)


def full(results: Results) -> None:
    """All real images under `hard-tiny`, two trainings."""
    key = "full | all real images | all | 0"
    if key not in results:
        config = EvaluationConfig(protocol="hard-tiny", repeats=2, flip=False)
        some = open_dataset("digits:train").select(1, 0)
        found = evaluate([some], "digits:test", real="digits:train", baselines=["full"], config=config)
        results[key] = found["results"][-1]["last"]["values"]


def paired(rows: dict[str, Any], part: str, ipc: int, ours: str, theirs: str) -> str:
    """Mean difference over the seeds that both have, and its 95 % interval (t distribution), in points."""
    from scipy.stats import t

    both = [
        100 * (sum(a) / len(a) - sum(b) / len(b))
        for seed in range(50)
        if (a := rows.get(f"{part} | {ours} | {ipc} | {seed}"))
        and (b := rows.get(f"{part} | {theirs} | {ipc} | {seed}"))
    ]
    if not both:
        return ""
    mean, error = mean_and_error(both)
    return f"{mean:+.1f}" + ("" if error is None else f" ± {t.ppf(0.975, len(both) - 1) * error:.1f}")


def table() -> str:
    """Markdown of all parts that were measured."""
    files = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("guidance_*.json"))]
    rows = {key: row for file in files for key, row in file["rows"].items()}
    lines = [
        "# Guidance on the digits: accuracy in per cent, mean ± standard error over generation seeds",
        "",
        f"Measured on {places(*files)}. 360 test images: one is 0.28 points. Last "
        "accuracy. Script: `benchmarks/guidance.py`; every value: `guidance_*.json`.",
    ]
    if whole := rows.get("full | all real images | all | 0"):
        lines[-1] += f" All 1,437 real images under `hard-tiny`: {100 * sum(whole) / len(whole):.1f}."
    for part, how in PARTS.items():
        if not any(key.startswith(f"{part} | ") for key in rows):
            continue
        scaled = "" if how["scale"] == 1 else f", **scaled** {how['scale']}"
        seeds = "one training seed" if how["repeats"] == 1 else f"{how['repeats']} training seeds"
        lines += ["", f"## `{how['protocol']}`, {how['network']}{scaled}, {seeds}", ""]
        ipcs = how["ipcs"]
        lines += [
            "| method | " + " | ".join(f"IPC {i}" for i in ipcs) + " | sets |",
            "|---|" + "--:|" * (len(ipcs) + 1),
        ]
        for method in (*REAL, *METHODS, *BOUNDS):
            cells, sets = [], 0
            for ipc in ipcs:
                start = f"{part} | {method} | {ipc} | "
                values = [100 * sum(v) / len(v) for k, v in rows.items() if k.startswith(start)]
                mean, error = mean_and_error(values) if values else (0.0, None)
                cells.append("" if not values else f"{mean:.1f}" + ("" if error is None else f" ± {error:.1f}"))
                sets = max(sets, len(values))
            if sets:
                lines.append(f"| {method} | " + " | ".join(cells) + f" | {sets} |")
        lines += ["", "`dap` minus, seed by seed, with the 95 % interval of the mean difference:", ""]
        lines += ["| | " + " | ".join(f"IPC {i}" for i in ipcs) + " |", "|---|" + "--:|" * len(ipcs)]
        for other in ("unguided", "random real", "k-means, pixels", "k-means, features", *PAPER.values()):
            differences = [paired(rows, part, ipc, DEFAULT, other) for ipc in ipcs]
            if any(differences):
                lines.append(f"| {other} | " + " | ".join(differences) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/guidance"))
    parser.add_argument("--part", choices=list(PARTS), default="tiny")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="one method by its name in the table")
    given = parser.parse_args()
    if given.part == "tiny":
        full(Results("guidance_tiny", methods=METHODS, parts={"tiny": PARTS["tiny"]}))
    for number in range(given.seeds):
        kept = Results(f"guidance_{given.part}", methods=METHODS, parts={given.part: PARTS[given.part]})
        measure(given.part, number, given.work, kept, given.only)
        (RESULTS / "guidance.md").write_text(table())
