"""Stages of `photographs.py` that check its comparison: against averages, more epochs, another machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from photograph_files import write_averages
from photograph_sets import Compared
from photograph_settings import MAIN, REAL, SECOND

MIDDLES = (("mean image", 1, 0), ("median image", 1, 0))  # of a class: no generator, nothing drawn


@dataclass(frozen=True, kw_only=True)
class Checks(Compared):
    """Each goes on where it stopped."""

    def averages(self) -> None:
        """Means and medians of classes at IPC 1, which draw nothing, and at IPC 10 the centres of k-means."""
        drawn = [("mean image", 10, seed) for seed in range(self.setting.seeds)]
        for network, (name, ipc, seed) in product(self.setting.networks, [*MIDDLES, *drawn]):
            if self.mine(key := f"worth | {network} | {name} | {ipc} | {seed}"):
                self.results[key] = self.judged(self.average(name, ipc, seed), network, self.test, ipc)
                print(key, self.results[key], flush=True)

    def average(self, name: str, ipc: int, seed: int) -> Path:
        """The folder of one of them, made or there."""
        out = self.place(name, ipc, seed)
        if not out.exists():
            write_averages(self.train, ipc, seed, out, median=name == "median image")
        return out

    def machine(self) -> None:
        """Sets of real images to the first network once more: what another machine's arithmetic moves."""
        network = next(iter(self.setting.networks))
        for ipc, name in product(self.setting.ipcs[1:], REAL):
            key, before = f"machine | {name} | {ipc} | 0", f"worth | {network} | {name} | {ipc} | 0"
            if before in self.results and self.mine(key):
                row = self.judged(self.the_set(name, ipc, 0), network, self.test, ipc)
                self.results[key] = row | {"before": self.results[before]["last"]}
                print(key, self.results[key], flush=True)

    def unscaled(self) -> None:
        """What the first network is taught in all of the protocol's epochs: IPC 1, the methods that are compared."""
        network = next(iter(self.setting.networks))
        for name, ipc, seed in (*MIDDLES, *self.all_sets()):
            key = f"unscaled | {network} | {name} | {ipc} | {seed}"
            wanted = ipc == 1 and name.removesuffix(SECOND) in (*MAIN, *(middle for middle, *_ in MIDDLES))
            if wanted and self.mine(key):
                what = (self.average if (name, ipc, seed) in MIDDLES else self.the_set)(name, ipc, seed)
                self.results[key] = self.judged(what, network, self.test, ipc, share=1.0)
                print(key, self.results[key], flush=True)
