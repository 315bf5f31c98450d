"""Rows of stored evaluations, read tolerantly: a field that is not there is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """What a paper reports for the same data, network, IPC and protocol: fractions, the best of its looks."""

    method: str
    mean: float
    sd: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of an evaluation: a set or a baseline, and a network. Accuracies are fractions.

    name, baseline   the set as it was called, or the baseline
    best             the best of all evaluations, chosen on the test data; None where it was not kept
    published        what papers report for the like
    row, whole       as in the file, for whoever wants the rest
    """

    name: str
    baseline: bool
    protocol: str
    scaled: bool
    network: str
    ipc: int | None
    mean: float
    sd: float | None
    values: tuple[float, ...]
    best: float | None
    published: tuple[Published, ...]
    row: Mapping[str, Any]
    whole: Mapping[str, Any]
    file: str


def results_of(records: Iterable[Mapping[str, Any]]) -> Iterator[Result]:
    """The rows of evaluations that can be shown, in their order; each record has the name of its "file"."""
    for whole in records:
        rows = whole.get("results")
        for row in rows if isinstance(rows, list) else []:
            if (found := _result(row, whole)) is not None:
                yield found


def _result(row: Any, whole: Mapping[str, Any]) -> Result | None:
    """A row of which at least the set, the network and the last accuracy are known."""
    last = row.get("last") if isinstance(row, dict) else None
    mean = number(last or {}, "mean")
    if not isinstance(last, dict) or mean is None or not isinstance(row.get("network"), str):
        return None
    ipc, values = row.get("ipc"), last.get("values")
    return Result(
        name=str(row.get("set")),
        baseline=row.get("source") is not None,
        protocol=str(whole.get("protocol", "?")),
        scaled=bool(whole.get("scaled")),
        network=row["network"],
        ipc=ipc if isinstance(ipc, int) else None,
        mean=mean,
        sd=number(last, "sd"),
        values=tuple(float(v) for v in values if isinstance(v, int | float)) if isinstance(values, list) else (),
        best=number(row, "best", "mean"),
        published=tuple(_published(row.get("published"))),
        row=row,
        whole=whole,
        file=str(whole["file"]),
    )


def _published(cells: Any) -> Iterator[Published]:
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and (mean := number(cell, "mean")) is not None:
            yield Published(str(cell.get("method")), mean, number(cell, "sd"), str(cell.get("source", "")))


def number(record: Mapping[str, Any], *path: str) -> float | None:
    """A number deep in a record, None when it is not there."""
    found: Any = record
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
