"""Does guidance collapse a set? Vendi score, coverage and distances of the sets that `guidance.py` left in its work.

    python benchmarks/diversity.py [--work runs/guidance]

Digits, seeds 0 to 4, IPC 2, 10 and 20: averages over classes and seeds of the set's numbers divided by those of as many
random real images ("yardstick" of `dap measure`), so 1.00 is as diverse as real images. Features at the backbone's tap.
A method that collapses falls far below 1 in the Vendi score.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dap.metrics import measure
from dap.metrics_config import MetricsConfig
from guidance import METHODS
from record import RESULTS, Results, mean_and_error, places

IPCS, SEEDS = (2, 10, 20), range(5)
NUMBERS = {"vendi": "Vendi score", "coverage": "coverage", "energy_distance": "energy distance"}


def ratios(directories: list[Path]) -> list[dict[str, float]]:
    """Each number of each set over that of random real images, averaged over classes."""
    found = measure(directories, config=MetricsConfig(points=0))["sets"]
    return [{key: value_of(one, key) / value_of(one["yardstick"], key) for key in NUMBERS} for one in found]


def value_of(numbers: dict[str, Any], key: str) -> float:
    """One number of a set's record, wherever it stands."""
    whole = {**numbers["representativeness"], **numbers["diversity"], "coverage": numbers["coverage"]}
    return float(whole[key]["mean"])


def table(results: Results) -> str:
    """Markdown."""
    about = results.record
    lines = ["# Guidance and diversity on the digits: as a share of what as many random real images have", ""]
    lines += [f"Mean over classes and generation seeds. Measured on {places(about)}. Script:"]
    lines += ["`benchmarks/diversity.py`. Energy distance: lower is nearer to the class.", ""]
    lines += ["| method | " + " | ".join(f"{name}, IPC {ipc}" for name in NUMBERS.values() for ipc in IPCS) + " |"]
    lines += ["|---|" + "--:|" * len(NUMBERS) * len(IPCS)]
    for method in METHODS:
        cells = []
        for key in NUMBERS:
            for ipc in IPCS:
                rows = [row[key] for k, row in about["rows"].items() if k.startswith(f"{method} | {ipc} | ")]
                cells.append(f"{mean_and_error(rows)[0]:.2f}" if rows else "")
        if any(cells):
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/guidance"))
    work = parser.parse_args().work
    kept = Results("diversity")
    sets = {
        f"{method} | {ipc} | {seed}": work / f"{''.join(c if c.isalnum() else '-' for c in method)}-ipc{ipc}-seed{seed}"
        for method in METHODS
        for ipc in IPCS
        for seed in SEEDS
    }
    missing = {key: place for key, place in sets.items() if key not in kept and place.exists()}
    for key, row in zip(missing, ratios(list(missing.values())), strict=True) if missing else ():
        kept[key] = row
    (RESULTS / "diversity.md").write_text(table(kept))
