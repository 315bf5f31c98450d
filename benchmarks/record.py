"""What every benchmark writes beside its numbers, and how results are kept: one JSON file, rewritten after each."""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dap.disk import write_json
from dap.record import machine, versions

RESULTS = Path(__file__).parent / "results"


class Results:
    """Rows by key in results/<name>.json; a key that is there is not measured again.

    `machine`, `versions` and `date` are those of the first rows; of rows that were measured on another machine or with
    other versions, `further` keeps theirs and their keys, and a note where something else was different. Several
    processes may write different rows of one file: each adds its row to what the file holds by then.
    """

    def __init__(self, name: str, **about: Any) -> None:
        self.path = RESULTS / f"{name}.json"
        self.record: dict[str, Any] = {"script": f"benchmarks/{name.partition('_')[0]}.py", **about, "rows": {}}
        self.here = {"machine": machine(), "versions": versions(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        self._read()

    def _read(self) -> None:
        """What the file holds."""
        there = json.loads(self.path.read_text()) if self.path.exists() else self.here
        self.record |= {key: there[key] for key in self.here} | {"rows": there.get("rows", {})}
        self.record["further"] = there.get("further", [])

    def __contains__(self, key: str) -> bool:
        self._read()
        return key in self.record["rows"]

    def __getitem__(self, key: str) -> Any:
        return self.record["rows"][key]

    def __setitem__(self, key: str, row: Any) -> None:
        RESULTS.mkdir(exist_ok=True)
        with alone(self.path.name):
            self._read()
            self.record["rows"][key] = row
            self._keys().append(key)
            write_json(self.path, self.record)

    def _keys(self) -> list[str]:
        """Where this machine's rows are named; nowhere if it measured the first ones."""
        if same_place(self.record, self.here):
            return []
        for other in self.record["further"]:
            if same_place(other, self.here):
                keys: list[str] = other["rows"]
                return keys
        self.record["further"].append({**self.here, "rows": []})
        return self._keys()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process of this machine at a time."""
    with (Path(tempfile.gettempdir()) / f"dap-benchmark-{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether machine and versions agree, the number of threads aside."""
    same = all({**one[key], "threads": 0} == {**other[key], "threads": 0} for key in ("machine", "versions"))
    return same and one.get("note") == other.get("note")


def places(*records: dict[str, Any]) -> str:
    """Machines, versions and dates of all rows of some records, for the head of a table."""
    found: dict[str, int] = {}
    for record in records:
        others = record.get("further", [])
        named = [set(other["rows"]) & record["rows"].keys() for other in others]
        own = record["rows"].keys() - set[str]().union(*named)
        for place, rows in zip((record, *others), (own, *named), strict=True):
            machine, torch = place["machine"], place["versions"]["torch"]
            hardware = f"{machine['processor']}, {machine['cores']} cores, GPU {machine['gpu']}"
            note = f" ({place['note']})" if "note" in place else ""
            text = f"{hardware}, torch {torch}, {place['date']}{note}"
            found[text] = found.get(text, 0) + len(rows)
    found = {text: rows for text, rows in found.items() if rows}
    return "; ".join(text if len(found) == 1 else f"{text}: {rows} rows" for text, rows in found.items())


def mean_and_error(values: list[float]) -> tuple[float, float | None]:
    """Mean, and its standard error from the spread of `values` (ddof 1; None for one value)."""
    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        return mean, None
    return mean, (sum((v - mean) ** 2 for v in values) / (count - 1) / count) ** 0.5
