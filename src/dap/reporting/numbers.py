"""The metrics as people read them: tiles, tables, what each number says and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dap.reporting.drawing import percent, short
from dap.reporting.figures import headline
from dap.reporting.reading import SetView
from dap.reporting.results import number
from dap.reporting.together import Metrics

LOW, HIGH = "; lower is better", "; higher is better"
METRICS = (  # name, where it lies, whether it is a share, what it says
    ("Energy distance", ("representativeness", "energy_distance"), False, f"how far the set is from its class{LOW}"),
    (
        "Mean D_K",
        ("representativeness", "mean_distance"),
        False,
        "how far its images are from the class's; it rises with diversity: low may be collapse",
    ),
    ("Vendi score", ("diversity", "vendi"), False, f"how many of a class's images count as different{HIGH}"),
    ("Mean pairwise D_K", ("diversity", "mean_pairwise"), False, f"how far its images are from each other{HIGH}"),
    ("Coverage", ("coverage",), True, f"share of real images with a synthetic one near them{HIGH}"),
    ("Near-copies", ("near_copies",), True, "share closer to a real image than its real neighbour is; to be looked at"),
)
MOST_CLASS_ROWS = 100


def tiles(view: SetView) -> list[dict[str, str]]:
    """The numbers of the first screen, those of as many random real images beside them."""
    metrics = view.metrics or {}
    yard = metrics.get("yardstick") or {}
    found = []
    for name, path, share, says in METRICS:
        if name.startswith("Mean") or (value := number(metrics, *path, "mean")) is None:
            continue
        real = number(yard, *path, "mean")
        shown = percent(value, 0) + " %" if share else short(value)
        usual = "" if real is None else f"real images: {percent(real, 0) + ' %' if share else short(real)}"
        found.append({"name": name, "value": shown, "note": says, "real": usual})
    return found


def metric_table(measured: Sequence[tuple[SetView, Metrics]]) -> dict[str, Any]:
    """Sets measured in one space, those of one size side by side and as many random real images beside them."""
    first = measured[0][1]
    sizes = list(dict.fromkeys(metrics.get("ipc") for _, metrics in measured))
    groups = [(ipc, _columns([pair for pair in measured if pair[1].get("ipc") == ipc])) for ipc in sizes]
    rows = [
        {
            "name": name,
            "says": says,
            "cells": [[_ranged(metrics, path, share) for _, metrics in columns] for _, columns in groups],
        }
        for name, path, share, says in METRICS
    ]
    return {
        "features": (first.get("features") or {}).get("name", "features"),
        "reference": {"name": "?", "images": "?", **(first.get("reference") or {})},
        "chance": any(None in (name for name, _ in columns) for _, columns in groups),
        "groups": [(ipc, [name for name, _ in columns]) for ipc, columns in groups],
        "rows": rows,
        "notes": [(view.name, note) for view, metrics in measured for note in metrics.get("notes") or ()],
    }


def _columns(measured: Sequence[tuple[SetView, Metrics]]) -> list[tuple[str | None, Metrics]]:
    """Name and numbers of each set, then those of real images (None) where one of the sets has them."""
    yards = (metrics.get("yardstick") for _, metrics in measured)
    real = [(None, yard) for yard in yards if isinstance(yard, dict)][:1]
    return [*((view.name, metrics) for view, metrics in measured), *real]


def _ranged(metrics: Mapping[str, Any], path: tuple[str, ...], share: bool) -> tuple[str, str]:
    """A mean and its interval, "" where there is none."""
    values = [number(metrics, *path, key) for key in ("mean", "low", "high")]
    shown = [percent(v) if share else short(v) for v in values]
    unit = " %" if share and values[0] is not None else ""
    return f"{shown[0]}{unit}", "" if values[1] is None else f"{shown[1]} to {shown[2]}"


def per_class(view: SetView) -> dict[str, Any]:
    """The table of classes: metrics, and the accuracy on each where an evaluation has it."""
    rows = [row for row in (view.metrics or {}).get("per_class") or [] if isinstance(row, dict)]
    result = headline(view)
    accuracy = {}
    if result is not None and isinstance(result.row.get("per_class"), list):
        accuracy = dict(zip(result.whole.get("classes") or (), result.row["per_class"], strict=False))
    table = [
        [
            str(row.get("class")),
            str(row.get("images", "–")),
            *(short(number(row, key)) for key in ("energy_distance", "mean_distance", "vendi", "mean_pairwise")),
            *(percent(number(row, key), 0) for key in ("coverage", "near_copies")),
            percent(number(accuracy, str(row.get("class")))),
        ]
        for row in rows[:MOST_CLASS_ROWS]
    ]
    return {"rows": table, "left_out": max(0, len(rows) - MOST_CLASS_ROWS)}
