"""Stages of `photographs.py` that check its comparison: against averages, more epochs, another machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from photograph_files import write_averages
from photograph_sets import Compared
from photograph_settings import MAIN, REAL, SECOND


@dataclass(frozen=True, kw_only=True)
class Checks(Compared):
    """Each goes on where it stopped."""

    def averages(self) -> None:
        """Means and medians of classes at IPC 1, which draw nothing, and at IPC 10 the centres of k-means."""
        drawn = [("mean image", 10, seed) for seed in range(self.setting.seeds)]
        for network, about in product(self.setting.networks, [("mean image", 1, 0), ("median image", 1, 0), *drawn]):
            name, ipc, seed = about
            if self.mine(key := f"worth | {network} | {name} | {ipc} | {seed}"):
                out = self.place(*about)
                if not out.exists():
                    write_averages(self.train, ipc, seed, out, median=name == "median image")
                self.results[key] = self.judged(out, network, self.test, ipc)
                print(key, self.results[key], flush=True)

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
        for name, ipc, seed in self.all_sets():
            key = f"unscaled | {network} | {name} | {ipc} | {seed}"
            if ipc == 1 and name.removesuffix(SECOND) in MAIN and self.mine(key):
                self.results[key] = self.judged(self.the_set(name, ipc, seed), network, self.test, ipc, share=1.0)
                print(key, self.results[key], flush=True)
