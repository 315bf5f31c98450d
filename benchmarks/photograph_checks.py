"""Stages of `photographs.py` that check its comparison: against averages, more epochs, another machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dap.config import digest
from photograph_files import CENTRES, write_averages
from photograph_sets import Compared
from photograph_settings import MAIN, MIDDLES, REAL, SECOND
from record import alone


@dataclass(frozen=True, kw_only=True)
class Checks(Compared):
    """Each goes on where it stopped."""

    def averages(self) -> None:
        """Means and medians of classes at IPC 1, which draw nothing, and at IPC 10 the centres of k-means."""
        drawn = [(CENTRES, 10, seed) for seed in range(self.setting.seeds)]
        for network, (name, ipc, seed) in product(self.setting.networks, [*((name, 1, 0) for name in MIDDLES), *drawn]):
            if self.mine(key := f"worth | {network} | {name} | {ipc} | {seed}"):
                self.results[key] = self.judged(self.average(name, ipc, seed), network, self.test, ipc)
                print(key, self.results[key], flush=True)

    def average(self, name: str, ipc: int, seed: int) -> Path:
        """The folder of one of them, made or there."""
        out = self.place(name, ipc, seed)
        with alone(digest(str(out.resolve()))):
            if not out.exists():
                write_averages(self.train, name, ipc, seed, out)
        return out

    def machine(self) -> None:
        """Real sets, IPC 10 and more, to the first network once more: what another machine's arithmetic moves."""
        network = next(iter(self.setting.networks))
        for ipc, name in product(self.setting.ipcs[1:], REAL):
            key, before = f"machine | {name} | {ipc} | 0", f"worth | {network} | {name} | {ipc} | 0"
            if before in self.results and self.mine(key):
                row = self.judged(self.the_set(name, ipc, 0), network, self.test, ipc, cells="cells-again")
                self.results[key] = row | {"before": self.results[before]["last"]}
                print(key, self.results[key], flush=True)

    def unscaled(self) -> None:
        """What the first network is taught in all of the protocol's epochs: IPC 1, the methods that are compared."""
        network = next(iter(self.setting.networks))
        compared = [about for about in self.all_sets() if about[1] == 1 and about[0].removesuffix(SECOND) in MAIN]
        for name, ipc, seed in [*((name, 1, 0) for name in MIDDLES), *compared]:
            if self.mine(key := f"unscaled | {network} | {name} | {ipc} | {seed}"):
                what = self.average(name, ipc, seed) if name in MIDDLES else self.the_set(name, ipc, seed)
                self.results[key] = self.judged(what, network, self.test, ipc, share=1.0)
                print(key, self.results[key], flush=True)
