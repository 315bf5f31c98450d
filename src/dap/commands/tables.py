"""The tables that a person reads; a record's fractions become per cent here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table


def percent(spread: Mapping[str, Any]) -> str:
    """{"mean", "sd"} in fractions -> `87.3 ± 1.2`; without sd for a single run."""
    sd = "" if spread["sd"] is None else f" ± {100 * spread['sd']:.1f}"
    return f"{100 * spread['mean']:.1f}{sd}"


def accuracy_table(title: str, results: Sequence[Mapping[str, Any]]) -> Table:
    """The table of `dap evaluate`: last accuracy as the headline, best and how many looks it is the best of beside it.

    Published figures, which are best accuracies, follow the last row of their network and images per class.
    """
    table = Table(title=escape(title))
    for name in ("set", "images per class", "network", "last %", "best %", "looks", "runs", "seconds"):
        table.add_column(name, justify="left" if name in ("set", "network") else "right")
    for at, row in enumerate(results):
        ipc = "all" if row["ipc"] is None else str(row["ipc"])
        table.add_row(
            escape(str(row["set"])),
            ipc,
            str(row["network"]),
            percent(row["last"]),
            percent(row["best"]),
            str(row.get("evaluations", "")),
            str(row["repeats"]),
            f"{row['seconds']:.1f}",
        )
        same = [(other["ipc"], other["network"]) for other in results[at + 1 :]]
        if (row["ipc"], row["network"]) not in same:
            for figure in row.get("published", ()):
                table.add_row(
                    f"{figure['method']}, published", ipc, str(row["network"]), "", percent(figure), "", "", ""
                )
    return table


def ranged(numbers: Mapping[str, Any], percent: bool = False) -> str:
    """{"mean", "low", "high"} -> `1.69 (1.47 to 1.92)`, shares as per cent; a dash where it is undefined."""
    values = [numbers.get(key) for key in ("mean", "low", "high")]
    shown = ["-" if v is None else f"{100 * v:.0f}" if percent else f"{v:.3g}" for v in values]
    return shown[0] if values[1] is None else f"{shown[0]} ({shown[1]} to {shown[2]})"


def measured_table(title: str, sets: Sequence[Mapping[str, Any]]) -> Table:
    """The table of `dap measure`: the average over classes, and 95 % of bootstrapped averages in brackets."""
    table = Table(title=escape(title), caption="brackets: 95 % over classes; real: as many real images, held out")
    table.add_column("set")
    for name in ("images per class", "energy distance ↓", "mean D_K", "Vendi ↑", "coverage % ↑", "near-copies %"):
        table.add_column(name, justify="right")
    rows = [(str(one["set"]), one["ipc"], one) for one in sets]
    yards = {one["ipc"]: one["yardstick"] for one in sets if one["yardstick"] is not None}
    for name, ipc, numbers in [*rows, *(("real", ipc, yard) for ipc, yard in yards.items())]:
        close, diverse = numbers["representativeness"], numbers["diversity"]
        table.add_row(
            escape(name),
            str(ipc),
            ranged(close["energy_distance"]),
            ranged(close["mean_distance"]),
            ranged(diverse["vendi"]),
            ranged(numbers["coverage"], percent=True),
            ranged(numbers["near_copies"], percent=True),
        )
    return table
