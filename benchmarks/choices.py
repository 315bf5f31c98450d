"""How the recommended guidance's options were chosen: the digits, generation seeds 200 .. 203, which no table uses.

    python benchmarks/choices.py [--work DIR] [--seeds 4] [--only PATTERN ...] [--ipc N ...] [--tiny | --small]

`hard-tiny`, 2 training seeds; ResNetAP-10 scaled .2, 1 training seed, where a row begins with "resnet"; `hard-small`,
ConvNet-3, 1 training seed, where it begins with "small".
Rows are kept as they are measured. Those of results/choices.md above "clusters of pairs" were measured with noise that
was balanced over the class alone, clusters of single images, and (before "auto, b 4, clusters, repulsion 0.5") anchors
every fourth step and a repulsion of 1/(I-1) where the energy now has 1/I. "contrast": clusters of pairs, and the push
away from other classes. All clusters are of plain k-means and repulsion is 1 unless a row says otherwise: equal ones,
with .7, came then ("balanced": of at most N/I pairs each, rounded up; the preset's differ by one at most), and last
"dap, from noise", whose repulsion grows with IPC, and "dap", which begins at real images half way.

"started": image to image from a real image of its cluster. "best of 8": of eight sets, class by class the one with the
least energy to the real images at the tap, t = 61. "taps 1 and 4": the tokens of both blocks side by side.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dap.backbones import open_backbone, tapping
from dap.backbones.dit import DiTBackbone
from dap.config import EvaluationConfig, load_config
from dap.data import Source, open_dataset
from dap.distillation import open_job
from dap.evaluation import evaluate
from dap.guidance import PRESETS
from dap.guidance.energy import set_energy
from dap.kernels import linear
from dap.reference import Reference
from dap.types import Unit
from divided import Divided
from guidance import real_set
from record import RESULTS, Results, mean_and_error

BEFORE: dict[str, Any] = {"name": "dap", "reference_size": 96, "start": 1.0}
OLD: dict[str, Any] = {**PRESETS["dap"], **BEFORE, "reference_herded": None}
FORMER: dict[str, Any] = {**OLD, "name": "divided:Divided", "repulsion": 1.0}
PLAIN: dict[str, Any] = {**FORMER, "contrast": 0.0}
B4: dict[str, Any] = {**PLAIN, "name": "dap", "reference": "class"}
BALANCED: dict[str, Any] = {**PLAIN, "equal": True}
METHODS: dict[str, dict[str, Any]] = {
    "unguided": {"name": "none"},
    "strength 0.3": {**B4, "strength": 0.3},
    "strength 0.5": {**B4, "strength": 0.5},
    **{f"auto, b {b}": {**B4, "beyond": float(b)} for b in (1, 2, 4, 8)},
    "rbf, power 2, strength 0.3": {**B4, "kernel": "rbf", "power": 2, "strength": 0.3},
    "rbf, power 2, strength 0.5": {**B4, "kernel": "rbf", "power": 2, "strength": 0.5},
    **{f"rbf, power 2, auto, b {b}": {**B4, "kernel": "rbf", "power": 2, "beyond": float(b)} for b in (1, 2, 4, 8)},
    "auto, b 8, reach 1": {**B4, "beyond": 8.0, "reach": 1.0},
    **{f"auto, b 4, block.{k}": {**B4, "tap": f"block.{k}"} for k in (1, 2, 4)},
    "auto, b 4, interval [.3, 1]": {**B4, "interval": [0.3, 1.0]},
    "auto, b 4, laplace": {**B4, "kernel": "laplace"},
    "auto, b 4, power 2": {**B4, "power": 2},
    "auto, b 4, all real images": {**B4, "reference_size": None},
    "auto, b 4, 32 support points": {**B4, "reference_size": 32},
    "auto, b 4, cfg 1.5": B4,
    "auto, b 4, cfg 2": B4,
    "auto, b 4, 100 steps": B4,
    "auto, b 4, clusters": PLAIN,
    "auto, b 4, clusters, power 2": {**PLAIN, "power": 2},
    "auto, b 4, clusters, interval [.3, 1]": {**PLAIN, "interval": [0.3, 1.0]},
    "auto, b 4, clusters, repulsion 0": {**PLAIN, "repulsion": 0.0},
    **{f"auto, b 4, clusters, repulsion {r}": {**PLAIN, "repulsion": float(r)} for r in (0.5, 1, 1.5, 2)},
    "clusters of pairs": PLAIN,
    "clusters of pairs, repulsion 0": {**PLAIN, "repulsion": 0.0},
    "clusters of pairs, all real images": {**PLAIN, "reference_size": "all"},
    "clusters of pairs, tap auto": {**PLAIN, "tap": "auto"},
    "clusters of pairs, pool mean": {**PLAIN, "pool": "mean"},
    "clusters of pairs, started": {**PLAIN, "name": "choices:Started", "start": 0.8},
    "clusters of pairs, best of 8": PLAIN,
    "clusters of pairs, taps 1 and 4": {**PLAIN, "tap": "block.4"},
    "clusters of pairs, repulsion 0.5": {**PLAIN, "repulsion": 0.5},
    "clusters of pairs, balanced": BALANCED,
    "clusters of pairs, balanced, repulsion 0.5": {**BALANCED, "repulsion": 0.5},
    "clusters of pairs, balanced, repulsion 0.7": {**BALANCED, "repulsion": 0.7},
    "clusters of pairs, block.1": {**PLAIN, "tap": "block.1"},
    "clusters of pairs, 128 support points": {**PLAIN, "reference_size": 128},
    "clusters of pairs, b 2": {**PLAIN, "beyond": 2.0},
    "pairs, class": {**PLAIN, "reference": "class"},
    **{f"contrast {mu}": {**FORMER, "contrast": float(mu)} for mu in (0.5, 0.8, 1.1)},
    "contrast 0.8, reach 1": {**FORMER, "reach": 1.0},
    "contrast 0.8, beyond 1": {**FORMER, "beyond": 1.0},
    "contrast 0.8, repulsion 0": {**FORMER, "repulsion": 0.0},
    "contrast 0.8, no clusters": {**FORMER, "reference": "class"},
    "contrast 0.8, all real images": {**FORMER, "reference_size": "all"},
    "clusters of pairs, reach 1": {**PLAIN, "reach": 1.0},
    "equal clusters, repulsion 0.7, contrast 0.8": {**BEFORE, "repulsion": 0.7},
    "the same, all steps but the last": {**BEFORE, "repulsion": 0.7, "interval": [0.0, 1.0]},
    "dap, from noise": BEFORE,
    "dap": {"name": "dap"},
    **{f"dap-paper, gamma {g}": {"name": "dap-paper", "gamma": float(g)} for g in (0.02, 0.05, 0.1, 0.2, 0.5, 1)},
}
SELECTED = ("random real", "k-means, pixels")
TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "auto, b 4, cfg 1.5": {"backbone": {"cfg_scale": 1.5}},
    "auto, b 4, cfg 2": {"backbone": {"cfg_scale": 2.0}},
    "auto, b 4, 100 steps": {"sampling": {"steps": 100}},
}


@dataclass(frozen=True, kw_only=True)
class Started(Divided):
    """Plain k-means clusters, begun at real images: image i at one of cluster i."""

    def starts(self, reference: Reference, units: Sequence[Unit]) -> Tensor:
        """x_0 [B, C, H, W]."""
        rows = {}
        for label in {unit.label for unit in units}:
            shares = self.shares(reference, label)
            rows[label] = reference.latents(label) if shares is None else reference.latents(label)[shares.argmax(1)]
        return torch.stack([rows[unit.label][unit.index] for unit in units])


@contextmanager
def beside(first: str) -> Iterator[None]:
    """Every DiT's tap gives the tokens of the earlier block `first` beside its own: [B, tokens, 2 x width]."""
    layer, tensor_of, earlier = DiTBackbone._layer, tapping._tensor_of, list[Tensor]()

    def both(backbone: DiTBackbone, tap: str) -> torch.nn.Module:
        if not getattr(backbone, "tapped_twice", False):
            backbone.tapped_twice = True  # type: ignore[attr-defined]
            keep = layer(backbone, first)
            keep.register_forward_hook(lambda module, args, output: earlier.__setitem__(slice(None), [output]))
        return layer(backbone, tap)

    DiTBackbone._layer = both  # type: ignore[method-assign]
    tapping._tensor_of = lambda output: torch.cat([earlier[0], tensor_of(output)], -1)
    try:
        yield
    finally:
        DiTBackbone._layer, tapping._tensor_of = layer, tensor_of  # type: ignore[method-assign]


def best_of(count: int, method: str, ipc: int, seed: int, work: Path) -> Path:
    """A folder with, class by class, the images of the set of least energy among `count` sets of other seeds."""
    sets = [made(method, ipc, 1000 * seed + k, work) for k in range(count)]
    backbone, real = open_backbone("digits", device="cpu"), open_dataset("digits:train").with_format(mode="L")
    out = work / f"best-of-{count}-ipc{ipc}-seed{seed}"

    def features(source: Source, label: int) -> Tensor:
        """Rows [n, F] of a class, without noise."""
        x_0 = backbone.encode(source.images(label).float() / 255)
        return backbone.tap_features(x_0, 61, backbone.condition([label]), backbone.default_tap).flatten(1)

    for label, name in enumerate(real.class_names):
        theirs = features(real, label)
        energies = [
            float(
                set_energy(features(open_dataset(s).with_format(mode="L"), label), theirs, linear, repulsion=1, power=1)
            )
            for s in sets
        ]
        shutil.copytree(sets[energies.index(min(energies))] / "data" / name, out / name, dirs_exist_ok=True)
    return out


def made(method: str, ipc: int, seed: int, work: Path) -> Path:
    """The set of a method, made or gone on with."""
    out = work / f"{''.join(c if c.isalnum() else '-' for c in method)}-ipc{ipc}-seed{seed}"
    mixed = "taps 1 and 4" in method
    run = {"ipc": ipc, "seed": seed, "reference_cache": str(work / ("mixed" if mixed else "features"))}
    data = {"source": "digits:train"}
    config = load_config(None, data=data, guidance=METHODS[method], run=run, **TABLES.get(method, {}))
    with beside("block.1") if mixed else nullcontext():
        for _ in open_job(config, out).render():
            pass
    return out


HOW: dict[str, dict[str, Any]] = {
    "": {"protocol": "hard-tiny", "repeats": 2},
    "resnet ": {"protocol": "hard-tiny", "networks": ("resnetap-10",), "repeats": 1, "epochs_scale": 0.2},
    "small ": {"protocol": "hard-small", "networks": ("convnet-3",), "repeats": 1, "flip": False},
}


def measured(method: str, ipc: int, seed: int, how: dict[str, Any], work: Path) -> list[float]:
    """Last accuracies of one set."""
    real = real_set(method, ipc, seed) if method in SELECTED else None
    out = best_of(8, method, ipc, seed, work) if "best of" in method else real or made(method, ipc, seed, work)
    config = EvaluationConfig(
        evaluations=1,  # the last accuracy is the same to the bit, however often one looks before
        **how,
    )
    found: list[float] = evaluate([out], "digits:test", config=config)["results"][0]["last"]["values"]
    return found


def table(results: Results) -> str:
    """Markdown: mean over the seeds that were measured."""
    ipcs = (1, 2, 5, 10, 20)
    lines = ["# How the options were chosen: digits, `hard-tiny`, generation seeds 200 to 203", ""]
    lines += ["Accuracy in per cent, mean ± standard error over sets (their number). `benchmarks/choices.py`.", ""]
    lines += ["| method | " + " | ".join(f"IPC {i}" for i in ipcs) + " |", "|---|" + "--:|" * len(ipcs)]
    for method in dict.fromkeys(key.split(" | ")[0] for key in results.record["rows"]):
        cells = []
        for ipc in ipcs:
            start = f"{method} | {ipc} | "
            values = [100 * sum(v) / len(v) for k, v in results.record["rows"].items() if k.startswith(start)]
            mean, error = mean_and_error(values) if values else (0.0, None)
            spread = "" if error is None else f" ± {error:.1f}"
            cells.append(f"{mean:.1f}{spread} ({len(values)})" if values else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/choices"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="methods by name, such as 'auto, *'")
    parser.add_argument("--ipc", type=int, action="append", help="instead of 1, 5 and 10")
    parser.add_argument("--tiny", action="store_true", help="`hard-tiny` alone")
    parser.add_argument("--small", action="store_true", help="`hard-small` alone")
    parser.add_argument("--table", action="store_true", help="only rewrite the table")
    given = parser.parse_args()
    kept = Results("choices", methods=METHODS)
    wanted = [name for name in (*SELECTED, *METHODS) if any(fnmatchcase(name, only) for only in given.only or ["*"])]
    for number in range(200, 200 + (0 if given.table else given.seeds)):
        for name in wanted:
            for each in given.ipc or (1, 5, 10):
                for under in ("small ",) if given.small else ("",) if given.tiny else ("", "resnet "):
                    if (row := f"{under}{name} | {each} | {number}") not in kept:
                        kept[row] = measured(name, each, number, HOW[under], given.work)
                        print(row, kept[row], flush=True)
    (RESULTS / "choices.md").write_text(table(kept))
