"""Everything that the HTML shows, as plain values: the template only lays it out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from dap._version import __version__
from dap.reporting.drawing import Drawn, percent, short
from dap.reporting.figures import beside, headline
from dap.reporting.gallery import contact_sheet, gallery
from dap.reporting.limits import limits, missing, no_test_map
from dap.reporting.reading import Result, SetView, number
from dap.reporting.reproduce import distill_words, join
from dap.terminal import duration

METRICS = (  # name, where it lies, whether it is a share, which direction is better
    ("Energy distance", ("representativeness", "energy_distance"), False, "lower"),
    ("Mean D_K", ("representativeness", "mean_distance"), False, "lower"),
    ("Vendi score", ("diversity", "vendi"), False, "higher"),
    ("Mean pairwise D_K", ("diversity", "mean_pairwise"), False, "higher"),
    ("Coverage", ("coverage",), True, "higher"),
    ("Near-copies", ("near_copies",), True, "lower"),
)
MOST_CLASS_ROWS = 100


def page(views: Sequence[SetView], figures: Sequence[tuple[Drawn, str, str]], tests: Sequence[str]) -> dict[str, Any]:
    """The values of the template. `figures` with their data URIs and file names, `tests` the likely test data."""
    main = views[0]
    data = {"sets": [gallery(view, len(views)) for view in views]}
    return {
        "version": __version__,
        "title": _title(main),
        "facts": _facts(main),
        "worth": _worth(main),
        "tiles": _tiles(main),
        "missing": missing(main, tests[0]),
        "no_test_map": no_test_map(main, tests[0]),
        "warnings": [(view.name, line) for view in views for line in view.warnings],
        "several": len(views) > 1,
        "sheet": contact_sheet(main),
        "classes": len(main.store.class_names),
        "sets": [{"name": s["name"], "shown": s["shown"], "total": s["total"]} for s in data["sets"]],
        "maps": any(s["maps"] for s in data["sets"]),
        "metrics": [_metric_rows(view) for view in views if view.metrics],
        "per_class": _per_class(main),
        "features": _named(main, "features").get("name", "features"),
        "reference": {"name": "?", "images": "?", **_named(main, "reference")},
        "figures": [
            {"uri": uri, "file": file, "title": f.title, "caption": f.caption, "alt": f.alt, "rows": f.rows}
            for f, uri, file in figures
        ],
        "evaluations": _evaluations(views),
        "configurations": [_configuration(view) for view in views],
        "costs": [_cost(view) for view in views],
        "versions": [(view.name, dict(view.store.config.get("versions") or {})) for view in views],
        "limits": limits(views),
        "data": data,
    }


def _title(view: SetView) -> str:
    counts = (view.store.config.get("real_images") or {}).get("counts") or (view.metrics or {}).get(
        "reference", {}
    ).get("counts")
    real = f"{sum(counts):,} real ones" if counts else "a whole dataset"
    count = len(view.pictures)
    return f"{count:,} image{'' if count == 1 else 's'} in place of {real}"


def _named(view: SetView, key: str) -> Mapping[str, Any]:
    found = (view.metrics or {}).get(key)
    return found if isinstance(found, dict) else {}


def _facts(view: SetView) -> list[tuple[str, str]]:
    guidance = view.table("guidance")
    preset = str(guidance.get("preset", "?"))
    named = ("strength", "gamma", "repulsion")
    options = ", ".join(f"{key} {_said(guidance[key])}" for key in named if guidance.get(key) is not None)
    return [
        ("Distilled from", str(view.table("data").get("source", "?"))),
        ("Classes", str(len(view.store.class_names))),
        ("Images per class", str(view.ipc)),
        ("Backbone", str(view.table("backbone").get("name", "?"))),
        ("Guidance", f"{preset} ({options})" if options and preset != "none" else preset),
        ("Seed", str(view.table("run").get("seed", "?"))),
    ]


def _said(value: Any) -> str:
    """A number without needless zeros, or a word such as auto."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _worth(view: SetView) -> dict[str, Any] | None:
    """The headline accuracy, and its baselines beside it."""
    result = headline(view)
    if result is None:
        return None
    rows = [("this set", result, "own")] + [(_baseline(r), r, "real") for r in beside(view, result)]
    return {
        "number": percent(result.mean),
        "spread": None if result.sd is None else percent(result.sd),
        "protocol": f"{result.protocol}{', shortened' if result.scaled else ''}",
        "network": result.network,
        "seeds": len(result.values),
        "rows": [
            {"name": name, "width": round(100 * r.mean, 1), "text": percent(r.mean), "kind": kind}
            for name, r, kind in rows
        ],
    }


def _baseline(result: Result) -> str:
    return "all real images" if result.ipc is None else f"{result.name}, {result.ipc} real a class"


def _tiles(view: SetView) -> list[dict[str, str]]:
    metrics = view.metrics or {}
    yard = metrics.get("yardstick") or {}
    tiles = []
    for name, path, share, better in METRICS:
        if name.startswith("Mean") or (value := number(metrics, *path, "mean")) is None:
            continue
        real = number(yard, *path, "mean")
        shown = percent(value, 0) + " %" if share else short(value)
        usual = "" if real is None else f"real images: {percent(real, 0) + ' %' if share else short(real)}"
        note = f"{better} is better" if name != "Near-copies" else "of training images"
        tiles.append({"name": name, "value": shown, "note": note, "real": usual})
    return tiles


def _metric_rows(view: SetView) -> dict[str, Any]:
    metrics = view.metrics or {}
    yard = metrics.get("yardstick")
    rows = [
        {
            "name": name,
            "better": f"{better} is better",
            "own": _ranged(metrics, path, share),
            "real": _ranged(yard, path, share) if isinstance(yard, dict) else "–",
        }
        for name, path, share, better in METRICS
    ]
    return {"set": view.name, "ipc": metrics.get("ipc"), "rows": rows, "notes": list(metrics.get("notes") or ())}


def _ranged(metrics: Mapping[str, Any], path: tuple[str, ...], share: bool) -> str:
    values = [number(metrics, *path, key) for key in ("mean", "low", "high")]
    shown = [percent(v) if share else short(v) for v in values]
    unit = " %" if share and values[0] is not None else ""
    return f"{shown[0]}{unit}" + (f" ({shown[1]} to {shown[2]})" if values[1] is not None else "")


def _per_class(view: SetView) -> dict[str, Any]:
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


def _evaluations(views: Sequence[SetView]) -> list[dict[str, Any]]:
    """Every row; a baseline that several sets share once."""
    rows: dict[Any, dict[str, Any]] = {}
    for view in views:
        for r in view.results:
            key = (r.name, r.ipc, r.protocol, r.scaled, r.network, r.values) if r.baseline else (view.name, len(rows))
            rows.setdefault(key, _evaluation(view, r))
    return list(rows.values())


def _evaluation(view: SetView, result: Result) -> dict[str, Any]:
    row = result.row
    return {
        "set": result.name,
        "kind": "real" if result.baseline else "set",
        "of": view.name,
        "protocol": f"{result.protocol}{' (scaled)' if result.scaled else ''}",
        "network": result.network,
        "ipc": "all" if result.ipc is None else str(result.ipc),
        "last": f"{percent(result.mean)}{'' if result.sd is None else f' ± {percent(result.sd)}'}",
        "best": percent(result.best),
        "runs": ", ".join(percent(v) for v in result.values),
        "seconds": short(number(row, "seconds")),
        "notes": [str(note) for note in row.get("notes") or ()],
        "file": result.file,
    }


def _configuration(view: SetView) -> dict[str, Any]:
    rows = [
        (table, key, json.dumps(value, ensure_ascii=False))
        for table, values in view.config.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value is not None
    ]
    command = join(distill_words(view.config, view.name))
    return {"set": view.name, "rows": rows, "digest": view.store.config.get("digest"), "command": command}


def _cost(view: SetView) -> dict[str, str]:
    result = headline(view)
    trained = number(result.row, "seconds") if result is not None else None
    each = view.seconds / len(view.pictures) if view.seconds and view.pictures else None
    return {
        "set": view.name,
        "images": f"{len(view.pictures):,} of {view.store.planned:,}",
        "sampling": "–" if view.seconds is None else duration(view.seconds),
        "each": "–" if each is None else f"{each:.3g} s",
        "device": ", ".join(view.devices) or "–",
        "training": "–" if trained is None else f"{trained:.3g} s",
        "chunks": str(len(view.store.chunks)),
        "files": f"{fmean(_sizes(view)) / 1e3:.3g} kB" if _sizes(view) else "–",
    }


def _sizes(view: SetView, most: int = 100) -> list[int]:
    return [picture.path.stat().st_size for picture in view.pictures[:most] if picture.there]
