"""What guidance is worth on photographs: a backbone trained here, choices on a validation part, then the test data.

    python benchmarks/photographs.py SETTING --data PARQUET_FOLDER [--work DIR] [--stage NAME ...] [--device cpu]
                                      [--only PATTERN ...]

SETTING   imagenette-gpu, cifar10-gpu (full protocol), imagenette-cpu (32 px, shortened evaluations, marked scaled),
          imagenette16-cpu (16 px, half an hour's backbone: only to compare choices)
backbone  `dap train` with configs/train_*.toml on the training split
choose    generation seeds from 100: gammas, strengths and variants, distilled from nine tenths of the training split
          and judged on the last tenth; nothing is ever chosen on test data
remedies  the same for what was tried where the preset was not ahead
generator many unguided images a class against as many real ones: what the backbone itself is worth
sets      every method at every IPC and generation seed
worth     each set under `hard-small`, every network, one training seed a set; all real images as reference
metrics   representativeness, diversity, coverage, near-copies
cost      seconds of guided and unguided sampling, IPC 10, cold and with a warm bank, pair by pair

Stages in this order when none is named; each row is kept as it is measured, and running it again goes on. `--only
"worth | resnet* | dap | *"` restricts a run to rows whose key fits a pattern, so that several processes can share the
work. Results: results/photographs_SETTING.json; `photograph_tables.py` and `photograph_pictures.py` show them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from dap.baselines import SELECTIONS
from dap.config import Config, EvaluationConfig, as_record, load_config
from dap.data import Source, open_dataset, split_validation
from dap.distillation import open_job
from dap.evaluation import evaluate
from dap.metrics import measure
from dap.metrics_config import MetricsConfig
from dap.train import train
from photograph_files import write_folders, write_shards
from photograph_settings import CANDIDATES, GAMMAS, GUIDED, REAL, REMEDIES, SETTINGS, Setting
from record import Results, mean_and_error

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One setting on one machine, and what it has found so far."""

    setting: Setting
    data: str
    work: Path
    device: str
    results: Results
    only: tuple[str, ...] = ("*",)

    def missing(self, key: str) -> bool:
        """Whether a row is asked for and not there yet."""
        return key not in self.results and any(fnmatchcase(key, pattern) for pattern in self.only)

    @cached_property
    def train(self) -> Source:
        """The training split at the backbone's size."""
        return open_dataset(f"{self.data}:train", size=self.setting.size)

    @cached_property
    def test(self) -> Source:
        """The test images that sets are judged on: the same draw for all."""
        whole, count = open_dataset(f"{self.data}:test"), self.setting.test_images
        return whole if count is None else whole.select(count // len(whole.class_names), 0)

    def backbone(self) -> None:
        """Trains, or goes on; keeps the loss curve, in hundredths of the way, and the weights in small pieces."""
        if self.pipeline.exists():
            return
        config, trained = load_config(str(CONFIGS / f"{self.setting.recipe}.toml")).train, self.work / "backbone"
        for p in train(open_dataset(f"{self.data}:train"), trained, config, device=self.device):
            print(f"backbone: {p.step} of {p.steps}, loss {p.loss:.4f}, {p.images_per_second:.0f} images/s", flush=True)
        write_shards(trained, self.pipeline)
        lines = (trained / "training" / "loss.csv").read_text().splitlines()[1:]
        steps, losses, speeds = zip(*(map(float, line.split(",")) for line in lines), strict=True)
        part, images = max(1, len(lines) // 100), config.batch * int(steps[-1])
        curve = [sum(losses[i : i + part]) / len(losses[i : i + part]) for i in range(0, len(lines), part)]
        seconds = images * sum(1 / speed for speed in speeds) / len(lines)
        self.results["backbone"] = {"recipe": self.setting.recipe, "images": images, "seconds": seconds, "loss": curve}

    @property
    def pipeline(self) -> Path:
        """The backbone that all else takes: fp16 in shards under 16 MB, which may come from another machine."""
        return self.work / "backbone-fp16"

    def config(self, guidance: dict[str, Any], ipc: int, seed: int, source: str | None = None) -> Config:
        """A distillation; `cfg_scale` among a guidance's keys is the backbone's."""
        scale = {key: value for key, value in guidance.items() if key == "cfg_scale"}
        return load_config(
            data={"source": source or f"{self.data}:train"},
            backbone={"name": str(self.pipeline), "device": self.device, **scale},
            guidance={key: value for key, value in guidance.items() if key not in scale},
            run={"ipc": ipc, "seed": seed, "reference_cache": str(self.work / "features")},
        )

    def distilled(self, name: str, guidance: dict[str, Any], ipc: int, seed: int, source: str | None = None) -> Path:
        """The set, made or gone on with."""
        safe = "".join(c if c.isalnum() else "-" for c in name)
        out = self.work / ("sets" if source is None else "choose") / f"{safe}-ipc{ipc}-seed{seed}"
        for _ in open_job(self.config(guidance, ipc, seed, source), out).render():
            pass
        return out

    def judged(self, what: Source | Path, network: str, test: Source, ipc: int, **more: Any) -> dict[str, Any]:
        """Last and best accuracy of one training; ipc only says how much of the protocol there is time for."""
        config = EvaluationConfig(
            networks=(network,),
            repeats=1,
            epochs_scale=self.setting.share(network, ipc),
            evaluations=self.setting.evaluations,
            dtype=self.setting.dtype,
            compile=self.setting.compile,
        )
        found = evaluate([what], test, config=config, cache=self.work / "cells", device=self.device, **more)
        row = found["results"][-1]
        return {key: row[key]["values"][0] for key in ("last", "best")} | {"seconds": row["seconds"]}

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
        if not folder.exists():
            write_folders(fit, folder)
        network = next(iter(self.setting.networks))
        for seed, ipc in product((*self.setting.choose_seeds, *self.setting.close_seeds), self.setting.choose_ipcs):
            real = {
                name: replace(SELECTIONS[name](fit, ipc, seed), name=f"{name} {seed}") for name in ("random", "kmeans")
            }
            for name in [*real, *candidates]:
                key = f"choose | {name} | {ipc} | {seed}"
                if self.setting.chosen_from(seed, name) and self.missing(key):
                    began = time.perf_counter()
                    what = real.get(name) or self.distilled(name, candidates[name], ipc, seed, str(folder))
                    made = {"made_seconds": time.perf_counter() - began}
                    share = {"vendi_share": self.vendi_share(what, fit, ipc)}
                    self.results[key] = self.judged(what, network, held, ipc) | made | share
                    print(key, self.results[key], flush=True)

    def generator(self) -> None:
        """Many unguided images a class, and as many real ones."""
        count, network = self.setting.plenty, next(iter(self.setting.networks))
        for name in ("random", "unguided"):
            if self.missing(key := f"generator | {name} | {count}"):
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

    def best_gamma(self) -> float:
        """Of the published method, on the validation part."""
        worth: dict[float, list[float]] = {gamma: [] for gamma in GAMMAS}
        for gamma, seed in product(GAMMAS, self.setting.choose_seeds):
            if (key := f"choose | dap-paper, gamma {gamma:g} | 10 | {seed}") in self.results:
                worth[gamma].append(self.results[key]["last"])
        return max(worth, key=lambda gamma: mean_and_error(worth[gamma])[0])

    def method(self, name: str) -> dict[str, Any]:
        """What is compared: unguided, dap-paper with its best gamma, and ours."""
        if name == "dap-paper":
            return {"name": name, "gamma": self.best_gamma()}
        return {"unguided": {"name": "none"}, **GUIDED}[name]

    def all_sets(self) -> Iterator[tuple[str, int, int]]:
        """(method, IPC, seed) of every set."""
        for seed, ipc in product(range(self.setting.seeds), self.setting.ipcs):
            for name in (*REAL, "unguided", "dap-paper", *GUIDED):
                if self.setting.made(name, ipc) and (seed == 0 or name != "herding"):  # herding draws nothing
                    yield name, ipc, seed

    def the_set(self, name: str, ipc: int, seed: int) -> Source | Path:
        """One of them: real images, or the distilled ones, made or gone on with."""
        if name in REAL:
            return replace(SELECTIONS[name](self.train, ipc, seed), name=f"{name} {seed}")
        return self.distilled(name, self.method(name), ipc, seed)

    def sets(self) -> None:
        """Makes them all; a set that was stopped and gone on with keeps the seconds of its second part."""
        for about in self.all_sets():
            if about[0] not in REAL and self.missing(key := "set | " + " | ".join(map(str, about))):
                began = time.perf_counter()
                self.the_set(*about)
                self.results[key] = {"seconds": time.perf_counter() - began}
                print(key, self.results[key], flush=True)

    def worth(self) -> None:
        """Every set to every network, the first network first; then all real images."""
        for network in self.setting.networks:
            for name, ipc, seed in self.all_sets():
                key = f"worth | {network} | {name} | {ipc} | {seed}"
                if self.setting.wanted(network, name, ipc) and self.missing(key):
                    self.results[key] = self.judged(self.the_set(name, ipc, seed), network, self.test, ipc)
                    print(key, self.results[key], flush=True)
            wanted = self.setting.full is None or network in self.setting.full
            if wanted and self.missing(key := f"worth | {network} | full | all | 0"):
                some = self.train.select(1, 0)
                self.results[key] = self.judged(some, network, self.test, 1, real=self.train, baselines=["full"])

    def metrics(self) -> None:
        """Every set at the backbone's tap, against up to 500 real images a class."""
        table = {"name": str(self.pipeline), "device": self.device}
        config = MetricsConfig(points=0, reference_size=min(500, *self.train.counts))
        keys = {f"metrics | {name} | {ipc} | {seed}": (name, ipc, seed) for name, ipc, seed in self.all_sets()}
        missing = [key for key in keys if self.missing(key)]
        if missing:
            sets = [self.the_set(*keys[key]) for key in missing]
            found = measure(sets, self.train, backbone=table, config=config, device=self.device)
            for key, row in zip(missing, found["sets"], strict=True):
                parts = ("representativeness", "diversity", "coverage", "near_copies", "yardstick")
                self.results[key] = {part: row[part] for part in parts}

    def cost(self) -> None:
        """Three pairs a case; reading and encoding the real images included, choosing support points apart."""
        for name, warm in (("dap", False), ("dap", True), ("dap-paper", False)):
            if self.missing(key := f"cost | {name}, {'warm' if warm else 'cold'}"):
                rows = [[self.seconds("unguided", warm), self.seconds(name, warm)] for _ in range(3)]
                self.results[key] = {"pairs": rows, "ratios": [b / a for a, b in rows]}
                print(key, self.results[key], flush=True)

    def seconds(self, name: str, warm: bool) -> float:
        """Sampling IPC 10 of all classes, nothing written."""
        config = self.config(self.method(name), 10, 0)
        if not warm:
            config = replace(config, run=replace(config.run, reference_cache=None))
        job = open_job(config, self.work / "never-written")
        began = time.perf_counter()
        for chunk in job.chunks:
            for _ in job.sample(chunk):
                pass
        return time.perf_counter() - began


if __name__ == "__main__":
    stages = ("backbone", "choose", "remedies", "generator", "sets", "worth", "metrics", "cost")
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
    for stage in given.stage or stages:
        getattr(bench, stage)()
