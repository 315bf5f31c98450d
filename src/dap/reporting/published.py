"""Published accuracies, to stand beside measured ones as hollow marks. Table 3 of the DAP paper, hard labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dap.reporting.reading import Result

TABLE = Path(__file__).parents[1] / "evaluation" / "published" / "hard_label.csv"


@dataclass(frozen=True)
class Published:
    """A cell of a published table: accuracy and standard deviation as fractions."""

    method: str
    mean: float
    sd: float | None
    source: str


def published_for(result: Result, data: Mapping[str, Any]) -> tuple[Published, ...]:
    """What was published for this dataset, network and IPC under this protocol; () for anything else.

    A scaled protocol, another one of the same family, or images of another size compare with nothing.
    """
    if result.scaled or result.ipc is None:
        return ()
    dataset = str(data.get("subset") or data.get("source") or "").rpartition("/")[2].partition(":")[0].lower()
    return _table().get((dataset, result.network.lower(), result.ipc, result.protocol), ())


@cache
def _table() -> dict[tuple[str, str, int, str], tuple[Published, ...]]:
    found: dict[tuple[str, str, int, str], tuple[Published, ...]] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["dataset"], row["network"].lower(), int(row["ipc"]), row["family"])
            sd = float(row["std"]) / 100 if row["std"] else None
            cell = Published(row["method"], float(row["top1_percent"]) / 100, sd, row["source"])
            found[key] = (*found.get(key, ()), cell)
    return found
