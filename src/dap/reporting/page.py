"""Everything that the HTML shows, as plain values: the template only lays it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from dap._version import __version__
from dap.reporting.drawing import COLOURS, DARK_COLOURS, Drawn, percent, short
from dap.reporting.figures import beside, headline
from dap.reporting.gallery import contact_sheet, gallery
from dap.reporting.limits import limits, missing, no_test_map
from dap.reporting.numbers import metric_table, per_class, tiles
from dap.reporting.reading import SetView
from dap.reporting.reproduce import distill_words, join
from dap.reporting.results import Published, Result, number
from dap.reporting.together import spaces
from dap.terminal import duration

FIGURE = ("title", "caption", "alt", "rows")


def page(views: Sequence[SetView], figures: Sequence[tuple[Drawn, str, str]]) -> dict[str, Any]:
    """The values of the template. `figures` with their data URIs and file names."""
    main = views[0]
    sets = [gallery(view, len(views)) for view in views]
    return {
        "version": __version__,
        "title": _title(main),
        "facts": [*([("Set", main.name)] if len(views) > 1 else []), *_facts(main)],
        "worth": _worth(main),
        "tiles": tiles(main),
        "missing": missing(views),
        "no_test_map": no_test_map(main),
        "warnings": [(view.name, line) for view in views for line in view.warnings],
        "remarks": [(view.name, line) for view in views for line in view.remarks],
        "several": len(views) > 1,
        "sheet": contact_sheet(main),
        "classes": len(main.store.class_names),
        "sets": [{"name": s["name"], "shown": s["shown"], "total": s["total"]} for s in sets],
        "maps": any(s["maps"] for s in sets),
        "metrics": [metric_table(found) for found in spaces(views)],
        "per_class": per_class(main),
        "features": ((main.metrics or {}).get("features") or {}).get("name", "features"),
        "figures": [
            {"uri": uri, "file": file, "size": f.size, **{key: getattr(f, key) for key in FIGURE}}
            for f, uri, file in figures
        ],
        "evaluations": _evaluations(views),
        "configurations": [_configuration(view) for view in views],
        "costs": [_cost(view) for view in views],
        "versions": [(view.name, dict(view.store.config.get("versions") or {})) for view in views],
        "limits": limits(views),
        "data": {"sets": sets, "colours": {"light": COLOURS, "dark": DARK_COLOURS}},
    }


def _title(view: SetView) -> str:
    counts = (view.store.config.get("real_images") or {}).get("counts") or (view.metrics or {}).get(
        "reference", {}
    ).get("counts")
    real = f"{sum(counts):,} real ones" if counts else "a whole dataset"
    count = len(view.pictures)
    return f"{count:,} image{'' if count == 1 else 's'} in place of {real}"


def _facts(view: SetView) -> list[tuple[str, str]]:
    guidance = view.table("guidance")
    preset = str(guidance.get("preset", "?"))
    named = ("strength", "gamma", "repulsion", "contrast", "reference", "tap")
    options = ", ".join(f"{key} {_said(guidance[key])}" for key in named if guidance.get(key) not in (None, 0))
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


def _evaluations(views: Sequence[SetView]) -> list[dict[str, Any]]:
    """Every row; a baseline that several sets share once."""
    rows: dict[Any, dict[str, Any]] = {}
    for view in views:
        for r in view.results:
            key = (r.name, r.ipc, r.protocol, r.scaled, r.network, r.values) if r.baseline else (view.given, len(rows))
            rows.setdefault(key, _evaluation(view, r))
            for cell in r.published:
                rows.setdefault((cell, r.ipc, r.protocol, r.network), _published(cell, r))
    return list(rows.values())


def _published(cell: Published, result: Result) -> dict[str, Any]:
    """A paper's number as a row of its own: a best, not a last."""
    best = f"{percent(cell.mean)}{'' if cell.sd is None else f' ± {percent(cell.sd)}'}"
    more = {"last": "–", "best": best, "runs": "–", "seconds": "–", "notes": []}
    return {**_row(cell.method, "published", result), **more, "file": cell.source}


def _row(name: str, kind: str, result: Result) -> dict[str, Any]:
    return {
        "set": name,
        "kind": kind,
        "protocol": f"{result.protocol}{' (scaled)' if result.scaled else ''}",
        "network": result.network,
        "ipc": "all" if result.ipc is None else str(result.ipc),
    }


def _evaluation(view: SetView, result: Result) -> dict[str, Any]:
    row = result.row
    return {
        **(_row(result.name, "real", result) if result.baseline else _row(view.name, "set", result)),
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
    command = join(distill_words(view.config, view.given))
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
        "files": _bytes(fmean(sizes)) if (sizes := _sizes(view)) else "–",
    }


def _bytes(count: float) -> str:
    return f"{count:.0f} B" if count < 1000 else f"{count / 1e3:.3g} kB"


def _sizes(view: SetView, most: int = 100) -> list[int]:
    return [picture.path.stat().st_size for picture in view.pictures[:most] if picture.there]
