"""What guidance is worth on photographs: a backbone trained here, choices on a validation part, then the test data.

    python benchmarks/photographs.py SETTING --data PARQUET_FOLDER [--work DIR] [--stage NAME ...] [--device cpu]
                                      [--only PATTERN ...]

SETTING   imagenette-gpu (64 px), cifar10-gpu, imagenette-cpu, cifar10-cpu (32 px), all with shortened evaluations,
          marked scaled; imagenette16-cpu (16 px, half an hour's backbone: only to compare choices)
backbone  `dap train` with configs/train_*.toml on the training split; a second one with another training seed, where
          its sets are to say how much hangs on one training ("METHOD, second backbone" in rows)
choose    generation seeds from 100: gammas, strengths and variants, distilled from nine tenths of the training split
          and judged on the last tenth (which the backbone has seen); nothing is ever chosen on test data
remedies  the same for what was tried where the preset was not ahead
generator many unguided images a class against as many real ones: what the backbone itself is worth
sets      every method at every IPC and generation seed
worth     each set under `hard-small`, every network, one training seed a set; all real images as reference
averages  blurred real images, which need no generator: class means and medians, and the centres of k-means
unscaled  the protocol's own number of epochs, at IPC 1, where the first network can afford it
machine   on another machine than the rows before: some real sets judged once more, to tell its part in a difference
metrics   representativeness, diversity, coverage, near-copies, at the tap that guided, and of pixels, which did not
cost      seconds of guided and unguided sampling, IPC 10, cold and with a warm bank, pair by pair

Stages in this order when none is named, but for `unscaled` and `machine`, which want to be named. Each row is kept as
it is measured, and running it again goes on. A row that is there, the backbone's too, is not measured again, or its
sets would mix with another's: move the results file away to begin anew. Several processes may run one command at once:
each row is measured by one of them (but one stage after the other: `backbone`, `choose`, `sets`, the rest).
`--only "worth | resnet* | dap | *"` restricts a run to rows whose key fits a pattern.
Results: results/photographs_SETTING.json; `photograph_tables.py` and `photograph_pictures.py` show them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dap.baselines import SELECTIONS
from dap.config import as_record, digest, load_config
from dap.data import Source, open_dataset, split_validation
from dap.distillation import open_job
from dap.metrics import measure
from dap.metrics_config import MetricsConfig
from dap.train import train
from photograph_checks import Checks
from photograph_files import write_folders, write_shards
from photograph_settings import CANDIDATES, REAL, REMEDIES, SECOND, SETTINGS
from record import Results, alone

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, kw_only=True)
class Bench(Checks):
    """The stages, each of which goes on where it stopped."""

    def backbone(self) -> None:
        """Trains, or goes on; keeps the loss curve, in hundredths of the way, and the weights in small pieces."""
        for name in ("", SECOND)[: 2 if self.setting.second else 1]:
            if self.mine(f"backbone{name}"):
                self.train_backbone(name)

    def train_backbone(self, name: str) -> None:
        """One of them."""
        pipeline = self.backbone_of(name)
        config = load_config(str(CONFIGS / f"{self.setting.recipe}.toml")).train
        config, trained = replace(config, seed=int(name == SECOND)), pipeline.with_name(pipeline.name[: -len("-fp16")])
        for p in train(open_dataset(f"{self.data}:train"), trained, config, device=self.device):
            print(f"backbone: {p.step} of {p.steps}, loss {p.loss:.4f}, {p.images_per_second:.0f} images/s", flush=True)
        write_shards(trained, pipeline)
        lines = (trained / "training" / "loss.csv").read_text().splitlines()[1:]
        steps, losses, speeds = zip(*(map(float, line.split(",")) for line in lines), strict=True)
        images = config.batch * int(steps[-1])
        curve = [float(part.mean()) for part in np.array_split(losses, min(100, len(lines)))]
        seconds = images * sum(1 / speed for speed in speeds) / len(lines)
        about = {"recipe": self.setting.recipe, "seed": config.seed, "images": images}
        self.results[f"backbone{name}"] = {**about, "seconds": seconds, "loss": curve}

    def choose(self) -> None:
        """Every candidate, and real images beside them, without the test data."""
        self.try_out(CANDIDATES)

    def remedies(self) -> None:
        """What was tried where `dap` was not ahead, in the same way."""
        self.try_out(REMEDIES)

    def try_out(self, candidates: dict[str, dict[str, Any]]) -> None:
        """Sets of each candidate, distilled from nine tenths of the training split and judged on the last tenth."""
        fit, held = split_validation(self.train, 0.1)
        folder = self.work / "fit"
        with alone(f"{digest(str(folder.resolve()))}-fit"):
            if not folder.exists():
                write_folders(fit, folder)
        network = next(iter(self.setting.networks))
        for seed, ipc in product((*self.setting.choose_seeds, *self.setting.close_seeds), self.setting.choose_ipcs):
            real = {
                name: replace(SELECTIONS[name](fit, ipc, seed), name=f"{name} {seed}") for name in ("random", "kmeans")
            }
            for name in [*real, *candidates]:
                key = f"choose | {name} | {ipc} | {seed}"
                if self.setting.chosen_from(seed, name) and self.mine(key):
                    began = time.perf_counter()
                    what = real.get(name) or self.distilled(name, candidates[name], ipc, seed, str(folder))
                    made: dict[str, Any] = {"made_seconds": time.perf_counter() - began}
                    made |= {"vendi_share": self.vendi_share(what, fit, ipc), "guidance": self.decided(what)}
                    self.results[key] = self.judged(what, network, held, ipc) | made
                    print(key, self.results[key], flush=True)

    def generator(self) -> None:
        """Many unguided images a class, and as many real ones."""
        count, network = self.setting.plenty, next(iter(self.setting.networks))
        for name in ("random", "unguided"):
            if self.mine(key := f"generator | {name} | {count}"):
                real = replace(self.train.select(count, 0), name=f"random {count}")
                what = real if name == "random" else self.distilled(name, {"name": "none"}, count, 0)
                self.results[key] = self.judged(what, network, self.test, count)
                print(key, self.results[key], flush=True)

    def vendi_share(self, what: Source | Path, real: Source, ipc: int) -> float | None:
        """Vendi score of a set / of as many real images, at the tap; None for one image a class, where it is 1."""
        if ipc == 1:
            return None
        table = {"name": str(self.pipeline), "device": self.device}
        config = MetricsConfig(points=0, reference_size=min(500, *real.counts))
        row = measure([what], real, backbone=table, config=config, device=self.device)["sets"][0]
        return float(row["diversity"]["vendi"]["mean"] / row["yardstick"]["diversity"]["vendi"]["mean"])

    def sets(self) -> None:
        """Makes them all; a set that was stopped and gone on with keeps the seconds of its second part."""
        for about in self.all_sets():
            if about[0] not in REAL and self.mine(key := "set | " + " | ".join(map(str, about))):
                began = time.perf_counter()
                what = self.the_set(*about)
                self.results[key] = {"seconds": time.perf_counter() - began, "guidance": self.decided(what)}
                print(key, self.results[key], flush=True)

    def worth(self) -> None:
        """Every set to every network, the first network first; then all real images."""
        for network in self.setting.networks:
            for name, ipc, seed in self.all_sets():
                key = f"worth | {network} | {name} | {ipc} | {seed}"
                if self.setting.wanted(network, name, ipc) and self.mine(key):
                    what = self.the_set(name, ipc, seed)
                    self.results[key] = self.judged(what, network, self.test, ipc) | {"guidance": self.decided(what)}
                    print(key, self.results[key], flush=True)
            wanted = self.setting.full is None or network in self.setting.full
            if wanted and self.mine(key := f"worth | {network} | full | all | 0"):
                some = self.train.select(1, 0)
                self.results[key] = self.judged(some, network, self.test, 0, real=self.train, baselines=["full"])

    def metrics(self) -> None:
        """Every set against up to 500 real images a class: at the tap, and of pixels, which guided nothing."""
        cases = product((("metrics", "tap"), ("metrics of pixels", "pixels")), ("", SECOND))
        for (start, features), which in cases:  # each set at the tap that guided it
            table = {"name": str(self.backbone_of(which)), "device": self.device}
            config = MetricsConfig(points=0, reference_size=min(500, *self.train.counts), features=features)
            here = (about for about in self.all_sets() if about[0].endswith(SECOND) == bool(which))
            keys = {f"{start} | {name} | {ipc} | {seed}": (name, ipc, seed) for name, ipc, seed in here}
            missing = [key for key in keys if self.mine(key)]
            if missing:
                sets = [self.the_set(*keys[key]) for key in missing]
                found = measure(sets, self.train, backbone=table, config=config, device=self.device)
                for key, row in zip(missing, found["sets"], strict=True):
                    parts = ("representativeness", "diversity", "coverage", "near_copies", "yardstick")
                    self.results[key] = {part: row[part] for part in parts}

    def cost(self) -> None:
        """Four pairs a case, in turn guided and unguided first, with each backbone that is here."""
        here = [which for which in ("", SECOND) if self.backbone_of(which).exists()]
        for which, (method, warm) in product(here, (("dap", False), ("dap", True), ("dap-paper", False))):
            plain, name = f"unguided{which}", f"{method}{which}"
            if self.mine(key := f"cost | {name}, {'warm' if warm else 'cold'}"):
                if warm:
                    self.seconds(name, warm)  # fills the bank
                rows = []
                for turn in range(4):
                    pair = {each: self.seconds(each, warm) for each in (plain, name)[:: 1 - 2 * (turn % 2)]}
                    rows.append([pair[plain], pair[name]])
                self.results[key] = {"pairs": rows, "ratios": [b / a for a, b in rows]}
                print(key, self.results[key], flush=True)

    def seconds(self, name: str, warm: bool) -> float:
        """Sampling IPC 10 of all classes, nothing written; checking files and choosing support points come before."""
        config = self.config(name, self.method(name, 10), 10, 0)
        if not warm:
            config = replace(config, run=replace(config.run, reference_cache=None))
        job = open_job(config, self.work / "never-written")
        began = time.perf_counter()
        for chunk in job.chunks:
            for _ in job.sample(chunk):
                pass
        return time.perf_counter() - began


if __name__ == "__main__":
    stages = (
        "backbone",
        "choose",
        "remedies",
        "generator",
        "sets",
        "worth",
        "averages",
        "unscaled",
        "machine",
        "metrics",
        "cost",
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--data", required=True, help="parquet folder with train and test")
    parser.add_argument("--work", type=Path, help="default: runs/photographs/SETTING")
    parser.add_argument("--stage", action="append", choices=stages)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="rows to measure; default: all")
    given = parser.parse_args()
    place = given.work or Path("runs/photographs") / given.setting
    kept = Results(f"photographs_{given.setting}", setting=as_record(SETTINGS[given.setting]))
    bench = Bench(
        setting=SETTINGS[given.setting],
        data=given.data,
        work=place,
        device=given.device,
        results=kept,
        only=tuple(given.only or ("*",)),
    )
    for stage in given.stage or [stage for stage in stages if stage not in ("unscaled", "machine")]:
        getattr(bench, stage)()
