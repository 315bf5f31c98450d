"""What every benchmark writes beside its numbers, and how results are kept: one JSON file, rewritten after each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dap.disk import write_json
from dap.record import machine, versions

RESULTS = Path(__file__).parent / "results"


class Results:
    """Rows by key in results/<name>.json; a key that is there is not measured again."""

    def __init__(self, name: str, **about: Any) -> None:
        self.path = RESULTS / f"{name}.json"
        self.record: dict[str, Any] = {"script": f"benchmarks/{name.partition('_')[0]}.py", **about, "rows": {}}
        here = {"machine": machine(), "versions": versions(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        if self.path.exists():
            there = json.loads(self.path.read_text())
            if {**there["machine"], "threads": 0} != {**here["machine"], "threads": 0}:
                print(f"{self.path} was measured on {there['machine']}: further rows would mix two machines")
            here = {key: there[key] for key in here}
            self.record["rows"] = there["rows"]
        self.record |= here

    def __contains__(self, key: str) -> bool:
        return key in self.record["rows"]

    def __getitem__(self, key: str) -> Any:
        return self.record["rows"][key]

    def __setitem__(self, key: str, row: Any) -> None:
        self.record["rows"][key] = row
        RESULTS.mkdir(exist_ok=True)
        write_json(self.path, self.record)


def mean_and_error(values: list[float]) -> tuple[float, float | None]:
    """Mean, and its standard error from the spread of `values` (ddof 1; None for one value)."""
    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        return mean, None
    return mean, (sum((v - mean) ** 2 for v in values) / (count - 1) / count) ** 0.5
