"""What `photographs.py` compares: every set of a setting, made once, and what judges it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from dap.baselines import SELECTIONS
from dap.config import Config, EvaluationConfig, digest, load_config
from dap.data import Source, open_dataset
from dap.distillation import open_job
from dap.evaluation import evaluate
from photograph_settings import GAMMAS, GUIDED, REAL, SECOND, Setting
from record import Results, mean_and_error


def folder_of(name: str, ipc: int, seed: int) -> str:
    """The folder of a set."""
    return f"{''.join(c if c.isalnum() else '-' for c in name)}-ipc{ipc}-seed{seed}"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One setting on one machine, and what it has found so far."""

    setting: Setting
    data: str
    work: Path
    device: str
    results: Results
    only: tuple[str, ...] = ("*",)
    claims: dict[str, int] = field(default_factory=dict)

    def mine(self, key: str) -> bool:
        """Whether a row is asked for, not there yet, and measured by no other process; it is then this one's."""
        asked = any(fnmatchcase(key, pattern) for pattern in self.only)
        return asked and key not in self.results and self.claimed(key) and key not in self.results

    def claimed(self, key: str) -> bool:
        """Takes a row for this process, until it is measured or the process ends; False where another has it."""
        for done in [held for held in self.claims if held in self.results]:
            os.close(self.claims.pop(done))
        path = self.work / "claims" / digest(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        held = self.claims.get(key) or os.open(path, os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return False
        self.claims[key] = held
        return True

    @cached_property
    def train(self) -> Source:
        """The training split at the backbone's size."""
        return open_dataset(f"{self.data}:train", size=self.setting.size)

    @cached_property
    def test(self) -> Source:
        """The test images that sets are judged on: the same draw for all."""
        whole, count = open_dataset(f"{self.data}:test"), self.setting.test_images
        return whole if count is None else whole.select(count // len(whole.class_names), 0)

    @property
    def pipeline(self) -> Path:
        """The backbone that all else takes: fp16 in shards under 16 MB, which may come from another machine."""
        return self.backbone_of("")

    def backbone_of(self, name: str) -> Path:
        """The backbone of a method."""
        return self.work / ("backbone-1-fp16" if name.endswith(SECOND) else "backbone-fp16")

    def config(self, name: str, guidance: dict[str, Any], ipc: int, seed: int, source: str | None = None) -> Config:
        """The distillation of a method; `cfg_scale` among a guidance's keys is the backbone's."""
        scale = {key: value for key, value in guidance.items() if key == "cfg_scale"}
        backbone = {"name": str(self.backbone_of(name)), "device": self.device, "dtype": self.setting.sampling, **scale}
        if guidance["name"] == "dap-paper" and self.setting.paper_real is not None:
            guidance = {**guidance, "reference_size": self.setting.paper_real}
        return load_config(
            data={"source": source or f"{self.data}:train"},
            backbone=backbone,
            guidance={key: value for key, value in guidance.items() if key not in scale},
            run={"ipc": ipc, "seed": seed, "reference_cache": str(self.work / "features")},
        )

    def place(self, name: str, ipc: int, seed: int, part: str = "sets") -> Path:
        """Where a set is made."""
        return self.work / part / folder_of(name, ipc, seed)

    def distilled(self, name: str, guidance: dict[str, Any], ipc: int, seed: int, source: str | None = None) -> Path:
        """The set, made or gone on with."""
        out = self.place(name, ipc, seed, "sets" if source is None else "choose")
        for _ in open_job(self.config(name, guidance, ipc, seed, source), out).render():
            pass
        return out

    def judged(
        self,
        what: Source | Path,
        network: str,
        test: Source,
        ipc: int,
        share: float | None = None,
        cells: str = "cells",
        **more: Any,
    ) -> dict[str, Any]:
        """Last and best accuracy of one training; ipc only says how much of the protocol there is time for, unless
        `share` does."""
        config = EvaluationConfig(
            networks=(network,),
            repeats=1,
            epochs_scale=self.setting.share(network, ipc) if share is None else share,
            evaluations=self.setting.evaluations,
            dtype=self.setting.dtype,
            compile=self.setting.compile,
        )
        found = evaluate([what], test, config=config, cache=self.work / cells, device=self.device, **more)
        row = found["results"][-1]
        return {key: row[key]["values"][0] for key in ("last", "best")} | {"seconds": row["seconds"]}

    def decided(self, what: Source | Path) -> dict[str, Any] | None:
        """The guidance that a set records, with what was left open decided; None for real and unguided images."""
        if isinstance(what, Source):
            return None
        guidance: dict[str, Any] | None = json.loads((what / "config.json").read_text())["determines"].get("guidance")
        return guidance

    def best_gamma(self, ipc: int) -> float:
        """Of the published method, on the validation part: at this IPC, or at the nearest that was tried."""
        worth: dict[int, dict[float, list[float]]] = {}
        for tried, gamma, seed in product(self.setting.choose_ipcs, GAMMAS, self.setting.choose_seeds):
            if (key := f"choose | dap-paper, gamma {gamma:g} | {tried} | {seed}") in self.results:
                worth.setdefault(tried, {}).setdefault(gamma, []).append(self.results[key]["last"])
        if not worth:
            raise SystemExit("no gamma of dap-paper has been tried yet: run --stage choose first")
        here = worth[min(worth, key=lambda tried: max(tried / ipc, ipc / tried))]
        return max(here, key=lambda gamma: mean_and_error(here[gamma])[0])

    def method(self, name: str, ipc: int) -> dict[str, Any]:
        """What is compared: unguided, dap-paper with the gamma that is best at that IPC, and ours."""
        name = name.removesuffix(SECOND)
        if name == "dap-paper":
            return {"name": name, "gamma": self.best_gamma(ipc)}
        return {"unguided": {"name": "none"}, **GUIDED}[name]

    def all_sets(self) -> Iterator[tuple[str, int, int]]:
        """(method, IPC, seed) of every set."""
        for seed, ipc in product(range(self.setting.seeds), self.setting.ipcs):
            again = (f"{name}{SECOND}" for name in self.setting.second)
            for name in (*REAL, "unguided", "dap-paper", *GUIDED, *again):
                if self.setting.made(name, ipc) and (seed == 0 or name != "herding"):  # herding draws nothing
                    yield name, ipc, seed

    def the_set(self, name: str, ipc: int, seed: int) -> Source | Path:
        """One of them: real images, or the distilled ones, made or gone on with."""
        if name in REAL:
            return replace(SELECTIONS[name](self.train, ipc, seed), name=f"{name} {seed}")
        if f"set | {name} | {ipc} | {seed}" in self.results and (out := self.place(name, ipc, seed)).exists():
            return out
        return self.distilled(name, self.method(name, ipc), ipc, seed)
