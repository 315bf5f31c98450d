"""The metrics as people read them: tiles, tables, what each number says and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dap.reporting.drawing import percent, short
from dap.reporting.figures import headline
from dap.reporting.reading import SetView
from dap.reporting.results import number
from dap.reporting.together import Metrics

METRICS = (  # name, where it lies, whether it is a share, which direction is better, what it says
    ("Energy distance", ("representativeness", "energy_distance"), False, "lower", "how far the set is from its class"),
    ("Mean D_K", ("representativeness", "mean_distance"), False, "lower", "how far its images are from the class's"),
    ("Vendi score", ("diversity", "vendi"), False, "higher", "how many of a class's images count as different"),
    ("Mean pairwise D_K", ("diversity", "mean_pairwise"), False, "higher", "how far its images are from each other"),
    ("Coverage", ("coverage",), True, "higher", "share of real images with a synthetic one near them"),
    ("Near-copies", ("near_copies",), True, "lower", "share closer to a real image than its real neighbour is"),
)
MOST_CLASS_ROWS = 100


def tiles(view: SetView) -> list[dict[str, str]]:
    """The numbers of the first screen, those of as many random real images beside them."""
    metrics = view.metrics or {}
    yard = metrics.get("yardstick") or {}
    found = []
    for name, path, share, better, says in METRICS:
        if name.startswith("Mean") or (value := number(metrics, *path, "mean")) is None:
            continue
        real = number(yard, *path, "mean")
        shown = percent(value, 0) + " %" if share else short(value)
        usual = "" if real is None else f"real images: {percent(real, 0) + ' %' if share else short(real)}"
        found.append({"name": name, "value": shown, "note": f"{says}; {better} is better", "real": usual})
    return found


def metric_table(measured: Sequence[tuple[SetView, Metrics]]) -> dict[str, Any]:
    """Sets measured in one space side by side, and as many random real images as the first has."""
    first = measured[0][1]
    yard = first.get("yardstick")
    rows = [
        {
            "name": name,
            "says": f"{says}; {better} is better",
            "own": [_ranged(metrics, path, share) for _, metrics in measured],
            "real": _ranged(yard, path, share) if isinstance(yard, dict) else "–",
        }
        for name, path, share, better, says in METRICS
    ]
    return {
        "features": (first.get("features") or {}).get("name", "features"),
        "reference": {"name": "?", "images": "?", **(first.get("reference") or {})},
        "sets": [(view.name, metrics.get("ipc")) for view, metrics in measured],
        "rows": rows,
        "notes": [(view.name, note) for view, metrics in measured for note in metrics.get("notes") or ()],
    }


def _ranged(metrics: Mapping[str, Any], path: tuple[str, ...], share: bool) -> str:
    values = [number(metrics, *path, key) for key in ("mean", "low", "high")]
    shown = [percent(v) if share else short(v) for v in values]
    unit = " %" if share and values[0] is not None else ""
    return f"{shown[0]}{unit}" + (f" ({shown[1]} to {shown[2]})" if values[1] is not None else "")


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
