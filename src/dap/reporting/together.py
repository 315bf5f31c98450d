"""Several sets side by side: names as short as they can be, and only numbers that compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dap.reporting.reading import SetView
from dap.reporting.results import Result

Metrics = Mapping[str, Any]


def together(views: Sequence[SetView]) -> list[SetView]:
    """The sets under short names, with the newest metrics that are in the first measured set's features.

    Metrics in other features, or against other real images, are left out with a warning that says what to type.
    """
    names = short_names([view.given for view in views])
    first = next((view for view in views if view.metrics), None)
    if first is None or first.metrics is None:
        return [replace(view, name=name) for view, name in zip(views, names, strict=True)]
    out, space = [], first.metrics
    for view, name in zip(views, names, strict=True):
        same = newest_like(view, space)
        warned = view.warnings
        if view.metrics and same is None:
            warned = (*warned, f"measured otherwise than {first.given}, and left out: measure them in one dap measure")
        out.append(replace(view, name=name, metrics=same, warnings=warned))
    return out


def newest_like(view: SetView, metrics: Metrics) -> Metrics | None:
    """The view's newest metrics in the same features against the same real images."""
    return next((found for found in reversed(view.measured) if _space(found) == _space(metrics)), None)


def spaces(views: Sequence[SetView]) -> Iterator[list[tuple[SetView, Metrics]]]:
    """For every space in which the first measured set was measured, newest first: the sets measured in it."""
    first = next((view for view in views if view.metrics), None)
    seen: list[Any] = []
    for metrics in reversed(first.measured if first else ()):
        if _space(metrics) not in seen:
            seen.append(_space(metrics))
            found = [(view, newest_like(view, metrics)) for view in views]
            yield [(view, one) for view, one in found if one is not None]


def _space(metrics: Metrics) -> tuple[Any, Any]:
    """What has to agree: how features were made, and of which real images."""
    real = metrics.get("reference")
    return metrics.get("features"), real.get("listing") if isinstance(real, dict) else None


def like(view: SetView, result: Result | None) -> Result | None:
    """The set's result of the same protocol and network, which alone compares: of most seeds, the newest of those."""
    if result is None:
        return None
    same = [r for r in view.results if not r.baseline and _same(r, result)]
    return max(reversed(same), key=lambda r: len(r.values), default=None)


def _same(one: Result, other: Result) -> bool:
    return (one.protocol, one.scaled, one.network) == (other.protocol, other.scaled, other.network)


def short_names(given: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them share; one alone stays as it is."""
    parts = [name.rstrip("/").split("/") for name in given]
    if len(set(given)) < 2:
        return list(given)
    common = 0
    while all(len(p) > common + 1 for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    return ["/".join(p[common:]) for p in parts]
