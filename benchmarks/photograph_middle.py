"""Which real images of a class should guide? Trials on the validation part of ImageNette, before the preset had them.

    python benchmarks/photograph_middle.py --data PARQUET_FOLDER [--work DIR] [--only PATTERN]

Of each class so many images are chosen from nine tenths of the training split, by one rule, and `dap` (begun half way)
sees these alone; judged on the last tenth by a ConvNet-3 and a ResNetAP-10. The rules:

support   the least energy distance to the class (`dap.support`)     herding   the mean nearest to the class's
near      the images nearest to the class's mean

of a pool (all, or so many drawn at random) of the images, seen at a width of so many pixels. "random of near": no
guidance, real images drawn among those. Rows are kept as they are measured in results/photograph_middle.json.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dap.baselines import SELECTIONS, herding_rows
from dap.config import digest
from dap.data import Source, split_validation
from dap.support import support_points
from photograph_files import write_folders
from photograph_settings import SETTINGS
from photographs import Bench
from record import RESULTS, Results, places


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How many images, by which rule, of how many, at which width; and what is made of them."""

    count: int
    by: str = "herding"
    pool: int | None = None
    side: int = 32
    guidance: dict[str, Any] | None = field(default_factory=dict)

    def of(self, source: Source) -> Source:
        """The images that are chosen."""
        pooled = source if self.pool is None else source.at_most(self.pool, 0)
        kept = []
        for label, keys in enumerate(pooled.keys):
            rows = F.adaptive_avg_pool2d(pooled.images(label).float() / 255, self.side).flatten(1)
            kept.append(tuple(keys[i] for i in sorted(self.chosen(rows))))
        return replace(pooled, keys=tuple(kept))

    def chosen(self, rows: Tensor) -> list[int]:
        """Indices of rows [N, F]."""
        if self.by == "near":
            return [int(i) for i in (rows - rows.mean(0)).norm(dim=1).argsort()[: self.count]]
        by = support_points if self.by == "support" else herding_rows
        return [int(i) for i in by(rows, self.count)]


RULES = {
    "96 by support": Rule(count=96, by="support"),
    "96 by herding": Rule(count=96),
    "48 by herding": Rule(count=48),
    "200 by herding": Rule(count=200),
    "96 near": Rule(count=96, by="near"),
    "96 by herding, 16 px": Rule(count=96, side=16),
    "96 by herding of 768, 16 px": Rule(count=96, pool=768, side=16),
    "96 by herding of 384, 16 px": Rule(count=96, pool=384, side=16),
    "random of 96 near": Rule(count=96, by="near", guidance=None),
}


def measured(bench: Bench, name: str, ipc: int, seed: int, network: str) -> dict[str, Any]:
    """Last accuracy, and the share of real images' diversity."""
    rule = RULES[name]
    fit, held = split_validation(bench.train, 0.1)
    some = rule.of(fit)
    if rule.guidance is None:
        what: Source | Path = replace(SELECTIONS["random"](some, ipc, seed), name=name.replace(" ", "-"))
    else:
        folder = bench.work / "middle" / digest(name)
        if not folder.exists():
            write_folders(some, folder)
        guidance = {"name": "dap", "reference_size": rule.count, **rule.guidance}
        what = bench.distilled(f"middle {name}", guidance, ipc, seed, str(folder))
    return bench.judged(what, network, held, ipc) | {"vendi_share": bench.vendi_share(what, fit, ipc)}


def table(results: Results) -> str:
    """Markdown, a row each."""
    lines = ["# Which real images of a class guide: ImageNette, 32 px, validation part", ""]
    lines += [f"Measured on {places(results.record)}. `benchmarks/photograph_middle.py`.", ""]
    lines += ["| network | real images of a class | IPC | seed | last % | Vendi score / real images' |"]
    lines += ["|---|---|--:|--:|--:|--:|"]
    for key, row in results.record["rows"].items():
        share = row["vendi_share"]
        cells = [*key.split(" | "), f"{100 * row['last']:.1f}", "" if share is None else f"{share:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="parquet folder with train and test")
    parser.add_argument("--work", type=Path, default=Path("runs/photographs/imagenette-cpu"))
    parser.add_argument("--only", action="append", metavar="PATTERN", help="rows 'network | rule | IPC | seed'")
    given = parser.parse_args()
    kept = Results("photograph_middle", script="benchmarks/photograph_middle.py")
    about = {"setting": SETTINGS["imagenette-cpu"], "data": given.data, "work": given.work, "device": "cpu"}
    trials = Bench(**about, results=Results("photographs_imagenette-cpu"))
    for number in (100, 101, 102):
        for rule_name in RULES:
            for judge in ("convnet-3", "resnetap-10"):
                for each in (10, 1, 50):
                    row_key = f"{judge} | {rule_name} | {each} | {number}"
                    asked = any(fnmatchcase(row_key, pattern) for pattern in given.only or ["*"])
                    if asked and row_key not in kept:
                        kept[row_key] = measured(trials, rule_name, each, number, judge)
                        print(row_key, kept[row_key], flush=True)
    (RESULTS / "photograph_middle.md").write_text(table(kept))
