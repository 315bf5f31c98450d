"""Which figures a report has: from what is known of the sets to `Drawn`, where there is something to see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from PIL import Image

from dap.reporting.drawing import Drawn
from dap.reporting.picture_plots import Pair, neighbours, trajectory, tsne
from dap.reporting.plots import Axis, Bar, Line, accuracy_bars, accuracy_by_ipc, cost_bars, radar
from dap.reporting.reading import SetView
from dap.reporting.results import Result, number
from dap.reporting.thumbnails import Reader, file_reader, real_images, source_reader
from dap.reporting.together import like
from dap.trace_files import trace_files

LEAST_POINTS = 3
SHEET_CLASSES, SHEET_IMAGES = 10, 5
FRAMES = ("guided", "unguided")

Point = tuple[float, float | None]  # mean and sd


def figures(views: Sequence[SetView]) -> Iterator[Drawn]:
    """Every figure that the first set and those beside it give, in the order in which a reader wants them."""
    main = views[0]
    if any(view.metrics for view in views):
        yield _radar(views)
    if bars := _bars(views):
        yield accuracy_bars(bars)
    lines, full, about = _lines(views)
    if lines and any(len(line.points) > 1 for line in lines):
        yield accuracy_by_ipc(lines, full, about)
    yield from _maps(main)
    if rows := _neighbours(main):
        yield neighbours(rows, str(((main.metrics or {}).get("features") or {}).get("name", "the features measured")))
    for record in main.traces:
        if (drawn := _trajectory(main, record)) is not None:
            yield drawn
    costs = [(v.name, v.seconds / len(v.pictures), ", ".join(v.devices) or "?") for v in views if v.seconds]
    if costs:
        yield cost_bars(costs)


def headline(view: SetView) -> Result | None:
    """The set's one number for worth: of the unscaled evaluations the one of most repeats, the newest of those."""
    own = [result for result in view.results if not result.baseline]
    ranked = sorted(enumerate(own), key=lambda pair: (not pair[1].scaled, len(pair[1].values), pair[0]))
    return ranked[-1][1] if ranked else None


def beside(view: SetView, result: Result) -> list[Result]:
    """The baselines of the same evaluation and network."""
    return [r for r in view.results if r.baseline and (r.file, r.network) == (result.file, result.network)]


def _radar(views: Sequence[SetView]) -> Drawn:
    first = next(view for view in views if view.metrics)
    result = headline(first)
    measured = [view for view in views if view.metrics and view.ipc == first.ipc]
    others = [view.name for view in views if view.metrics and view.ipc != first.ipc]
    sets = [(view.name, _numbers(view.metrics or {}, like(view, result))) for view in measured]
    yard = (first.metrics or {}).get("yardstick")
    if isinstance(yard, dict):
        random = [r for r in (beside(first, result) if result else []) if (r.name, r.ipc) == ("random", first.ipc)]
        sets.append(("as many random real images", _numbers(yard, random[-1] if random else None)))
    energy = max((values[1] for _, values in sets if values[1]), default=0.0) or 1.0
    ipc = max(2, *(view.ipc for view in measured))
    axes = [
        Axis(name="accuracy", centre=0, rim=100, unit=" %"),
        Axis(name="energy distance", says="representativeness", centre=float(f"{1.15 * energy:.2g}"), rim=0),
        Axis(name="Vendi score", says="diversity", centre=1, rim=ipc),
        Axis(name="coverage", centre=0, rim=100, unit=" %"),
    ]
    features = str(((first.metrics or {}).get("features") or {}).get("name", "?"))
    under = "" if result is None else f" Accuracy: {_protocol(result)}."
    return radar(axes, sets, f"{_of_one_size(first.ipc, others)}Features: {features}.{under}")


def _of_one_size(ipc: int, others: Sequence[str], most: int = 4) -> str:
    """Which sets a comparison leaves out; "" where it leaves out none."""
    if not others:
        return ""
    names = ", ".join(others[:most]) + (f" and {len(others) - most} more" if len(others) > most else "")
    only = f"Sets of {ipc} image{'' if ipc == 1 else 's'} a class only"
    return f"{only}: {names}, of another size, would not compare. "


def _protocol(result: Result) -> str:
    return f"{result.protocol}{', scaled' if result.scaled else ''}, {result.network}"


def _numbers(metrics: Mapping[str, Any], result: Result | None) -> list[float | None]:
    coverage = number(metrics, "coverage", "mean")
    return [
        None if result is None else 100 * result.mean,
        number(metrics, "representativeness", "energy_distance", "mean"),
        number(metrics, "diversity", "vendi", "mean"),
        None if coverage is None else 100 * coverage,
    ]


def _bars(views: Sequence[SetView]) -> list[Bar]:
    bars: dict[tuple[Any, ...], Bar] = {}
    for view in views:
        for result in view.results:
            ipc = "all" if result.ipc is None else f"IPC {result.ipc}"
            group = _protocol(result)
            name = f"{result.name}, {ipc}" if result.baseline else view.name
            bars[group, name] = Bar(name=name, group=group, mean=result.mean, sd=result.sd, baseline=result.baseline)
            for cell in result.published:
                shown = f"{cell.method}, {ipc}, published"
                bars[group, shown] = Bar(name=shown, group=group, mean=cell.mean, sd=cell.sd, hollow=True)
    return sorted(bars.values(), key=lambda bar: bar.group)


def _lines(views: Sequence[SetView]) -> tuple[list[Line], float | None, str]:
    """Accuracy by IPC under the protocol and network of the first set's headline; sets of other seeds together."""
    first = headline(views[0])
    if first is None:
        return [], None, ""
    found: dict[tuple[str, str], dict[int, list[Point]]] = {}
    full = None
    for view in views:
        own = like(view, first)
        for result in view.results:
            if _protocol(result) != _protocol(first) or not (result.baseline or result is own):
                continue
            if result.ipc is None:
                full = result.mean
                continue
            point = result.mean, result.sd
            if result.baseline:
                found.setdefault(("real", f"{result.name} real images"), {})[result.ipc] = [point]
            else:
                found.setdefault(("own", _method(view)), {}).setdefault(result.ipc, []).append(point)
            for cell in result.published:
                found.setdefault(("hollow", f"{cell.method}, published"), {})[result.ipc] = [(cell.mean, cell.sd)]
    lines = [
        Line(
            name=name,
            points=tuple((ipc, *_together(points[ipc])) for ipc in sorted(points)),
            hollow=kind == "hollow",
            baseline=kind == "real",
        )
        for (kind, name), points in found.items()
    ]
    return sorted(lines, key=lambda line: (line.hollow, line.baseline)), full, _protocol(first)


def _together(points: Sequence[Point]) -> Point:
    """One set's mean and sd over training seeds; of several the mean, and the sd between them."""
    means = [mean for mean, _ in points]
    return points[0] if len(points) == 1 else (fmean(means), stdev(means))


def _method(view: SetView) -> str:
    """What made the set, less the images per class: sets that share it lie on one line."""
    guidance = view.table("guidance")
    preset = str(guidance.get("preset", "?"))
    size = guidance.get("strength") if guidance.get("strength") is not None else guidance.get("gamma")
    return "without guidance" if preset == "none" or size is None else f"{preset}, {size}"


def _maps(view: SetView) -> Iterator[Drawn]:
    metrics = view.metrics or {}
    for name, title, real in (
        ("train", "Real training images and synthetic ones", "real training"),
        ("test", "Real test images and synthetic ones", "real test"),
    ):
        if len(points := points_of(metrics, name)) >= LEAST_POINTS:
            yield tsne(f"map_{name}", title, points, [str(c) for c in metrics.get("classes", [])], real)


def points_of(metrics: Mapping[str, Any], name: str) -> list[list[Any]]:
    """The points of a map that are whole: [set, label, file, x, y]."""
    found = (metrics.get("maps") or {}).get(name) or {}
    points = found.get("points") if isinstance(found, dict) else None
    classes = len(metrics.get("classes") or [])
    return [p for p in points or [] if _is_point(p, classes)]


def _is_point(point: Any, classes: int) -> bool:
    if not (isinstance(point, list) and len(point) == 5 and isinstance(point[2], str)):
        return False
    numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in (*point[:2], *point[3:]))
    return numbers and point[0] in (-1, 0) and point[1] in range(classes)


def nearest(view: SetView) -> dict[tuple[str, str], tuple[str, float, bool | None]]:
    """(class, file) of each synthetic image -> its nearest real image's file, the distance, is it a near-copy."""
    table = (view.metrics or {}).get("neighbours")
    found = {}
    for name, rows in table.items() if isinstance(table, dict) else ():
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, list) and len(row) == 4 and isinstance(row[2], int | float):
                found[name, str(row[0])] = (str(row[1]), float(row[2]), row[3])
    return found


def real_reader(view: SetView, which: str = "reference") -> Callable[[str, str], Reader] | None:
    """(class, file) -> Reader of a real image, or None where the real images are not at hand.

    which  "reference" or "test", as the metrics call them
    """
    about = (view.metrics or {}).get(which)
    source = real_images(str(about.get("name") or "")) if isinstance(about, dict) else None
    if source is None:
        return None
    return lambda class_name, key: source_reader(source, class_name, key)


def _neighbours(view: SetView) -> list[tuple[str, list[Pair]]]:
    """Some images of some classes, each with its nearest real one; [] where no real image is at hand."""
    table, reader = nearest(view), real_reader(view)
    if not table or reader is None:
        return []
    rows: list[tuple[str, list[Pair]]] = []
    for label, name in enumerate(view.store.class_names[:SHEET_CLASSES]):
        pairs: list[Pair] = []
        for picture in [p for p in view.pictures if p.label == label and p.there][:SHEET_IMAGES]:
            image, found = file_reader(picture.path)(), table.get((name, picture.path.name))
            if image is not None and found is not None:
                real: Reader = reader(name, found[0])
                pairs.append((image, real()))
        rows += [(name, pairs)] if any(real is not None for _, real in pairs) else []
    return rows


def _trajectory(view: SetView, record: Mapping[str, Any]) -> Drawn | None:
    """The stored way of one image; None when its strips are gone."""
    label = {name: k for k, name in enumerate(view.store.class_names)}.get(str(record.get("class")))
    index = record.get("index")
    if label is None or not isinstance(index, int):
        return None
    files = trace_files(view.store.folders[label], index)
    strips: dict[str, Sequence[Image.Image]] = {}
    for kind in FRAMES:
        strip = file_reader(view.store.path / files[kind])()
        if strip is not None:
            side = strip.height
            strips[kind] = [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width - side + 1, side)]
    name = f"trajectory_{label}_{index}"
    return trajectory(record, strips, name) if strips else None
