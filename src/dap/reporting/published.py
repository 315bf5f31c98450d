"""Published accuracies, to stand beside measured ones as hollow marks: those that `dap evaluate` found comparable.

It compares data set, network, images per class and protocol, to the letter (`dap.evaluation.published`); what it wrote
beside a result is shown, and nothing is looked up again.
"""

from __future__ import annotations

from dataclasses import dataclass

from dap.reporting.reading import Result, number


@dataclass(frozen=True)
class Published:
    """A cell of a published table: accuracy and standard deviation as fractions."""

    method: str
    mean: float
    sd: float | None
    source: str


def published_for(result: Result) -> tuple[Published, ...]:
    """What papers report for the same thing, as the result's own row says; () where it says nothing."""
    rows = result.row.get("published")
    found = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and (mean := number(row, "mean")) is not None:
            found.append(Published(str(row.get("method")), mean, number(row, "sd"), str(row.get("source"))))
    return tuple(found)
