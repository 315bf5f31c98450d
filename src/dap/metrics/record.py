"""Results as JSON-ready dicts, and as files that are complete or not there.

    {"representativeness", "diversity", "coverage", "near_copies", ... of the first set,
     "sets": [record of each set], "differences": [each further set minus the first], "files": [...]}

The record of a set, also that of DIR/metrics/<features>-<digest>.json:

    set, ipc, images      its name, images of the smallest class, of all
    representativeness    {"energy_distance", "mean_distance"}   each {"mean", "low", "high"}: the average over classes
    diversity             {"vendi", "mean_pairwise"}             and 95 % of bootstrapped averages; null where undefined
    coverage, near_copies the same, shares 0..1
    yardstick             the same numbers of as many random real images, held out of the reference; null when too few
    per_class             [{"class", "images", "real_images", each number}]
    neighbours            {class: [[file, nearest real file, distance, is a near-copy], ...]}
    maps                  {"train" | "test": {"points": [[set, label, file, x, y], ...]}}   set -1: real; labels below
    features, reference, test, settings, classes, notes, digest, dap, versions, machine
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dap.config import digest
from dap.data import Source
from dap.disk import refusals, write_json
from dap.errors import StoreError
from dap.metrics.scores import Scores, interval
from dap.metrics.subjects import Subject
from dap.metrics.tsne import LEAST
from dap.metrics_config import MetricsConfig
from dap.record import machine, versions

NUMBERS = ("energy_distance", "mean_distance", "vendi", "mean_pairwise", "coverage", "near_copies")


@dataclass(frozen=True, slots=True)
class Place:
    """One image on a map: image `position` of class `label` of set `subject` (-1: real), at x, y in 0..1."""

    subject: int
    label: int
    position: int
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """scores[set][label], the yardsticks likewise, and the maps by name."""

    scores: list[list[Scores]]
    yardsticks: list[list[Scores | None]]
    maps: dict[str, list[Place]]


def of(
    results: Results,
    subjects: Sequence[Subject],
    real: Source,
    test: Source | None,
    features: dict[str, Any],
    config: MetricsConfig,
) -> dict[str, Any]:
    """The whole result; writes each distilled dataset's own part into it."""
    about = {
        "features": features,
        "reference": _listing(real),
        "test": None if test is None else _listing(test),
        "settings": asdict(config),
        "classes": list(real.class_names),
    }
    surroundings = {"versions": versions(), "machine": machine()}
    sets, files = [], []
    for k, subject in enumerate(subjects):
        numbers = _set_record(k, results, subject, real, config)
        maps = {
            name: {"points": _points(k, places, subject, real, test, name)} for name, places in results.maps.items()
        }
        named = digest([about, subject.record.get("digest"), numbers["images"]])
        if config.points and not all(results.maps.values()):
            numbers["notes"].append(f"there are fewer than {LEAST} images to draw: no map")
        whole = {**numbers, "maps": maps, **about, "digest": named, **surroundings}
        sets.append(whole)
        if subject.directory is not None:
            files.append(str(_write(subject.directory, features["name"], whole)))
    return {**sets[0], "sets": sets, "differences": _differences(results, subjects, config), "files": files}


def check_writable(directory: Path | None) -> None:
    """Raises StoreError when DIR/metrics cannot be written: to be asked before hours of work."""
    if directory is None:
        return
    folder = directory / "metrics"
    with refusals(folder):
        folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise StoreError(f"cannot write {str(folder)!r} (not permitted): allow it, or copy the set elsewhere")


def _set_record(k: int, results: Results, subject: Subject, real: Source, config: MetricsConfig) -> dict[str, Any]:
    scores, yards = results.scores[k], results.yardsticks[k]
    rows = [
        {"class": name, "images": len(s.nearest), "real_images": count, **numbers_of(s)}
        for name, count, s in zip(real.class_names, real.counts, scores, strict=True)
    ]
    known = [numbers_of(y) for y in yards if y is not None]
    keys = zip(real.class_names, subject.source.keys, real.keys, scores, strict=True)
    return {
        "set": subject.name,
        "ipc": subject.ipc,
        "images": sum(subject.source.counts),
        **_grouped(rows, config.seed),
        "yardstick": _grouped(known, config.seed) if len(known) == len(yards) else None,
        "per_class": rows,
        "neighbours": {name: _neighbours(mine, theirs, s) for name, mine, theirs, s in keys},
        "notes": _notes(subject, real, yards),
    }


def numbers_of(scores: Scores) -> dict[str, float | None]:
    """The numbers of one class by name."""
    return {name: getattr(scores, name) for name in NUMBERS}


def _grouped(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    means = {name: interval([row[name] for row in rows], seed) for name in NUMBERS}
    return {
        "representativeness": {name: means[name] for name in ("energy_distance", "mean_distance")},
        "diversity": {name: means[name] for name in ("vendi", "mean_pairwise")},
        "coverage": means["coverage"],
        "near_copies": means["near_copies"],
    }


def _neighbours(mine: Sequence[str], theirs: Sequence[str], scores: Scores) -> list[list[Any]]:
    copies = scores.copies or [None] * len(mine)
    found = zip(mine, scores.nearest, scores.nearest_distance, copies, strict=True)
    return [[_shown(key), _shown(theirs[at]), round(d, 6), copy] for key, at, d, copy in found]


def _points(
    k: int, places: Sequence[Place], subject: Subject, real: Source, test: Source | None, name: str
) -> list[list[Any]]:
    """Real images and this set's own, with the file each is."""
    shown = real if name == "train" or test is None else test
    out: list[list[Any]] = []
    for p in places:
        if p.subject in (-1, k):
            source = shown if p.subject == -1 else subject.source
            out.append([min(p.subject, 0), p.label, _shown(source.keys[p.label][p.position]), p.x, p.y])
    return out


def _differences(results: Results, subjects: Sequence[Subject], config: MetricsConfig) -> list[dict[str, Any]]:
    """Each further set minus the first, paired class by class."""
    out = []
    for k in range(1, len(subjects)):
        pairs = zip(map(numbers_of, results.scores[k]), map(numbers_of, results.scores[0]), strict=True)
        rows = [
            {n: None if a[n] is None or b[n] is None else a[n] - b[n] for n in NUMBERS}  # type: ignore[operator]
            for a, b in pairs
        ]
        out.append({"set": subjects[k].name, "minus": subjects[0].name, **_grouped(rows, config.seed)})
    return out


def _notes(subject: Subject, real: Source, yards: list[Scores | None]) -> list[str]:
    notes = []
    if None in yards:
        label = yards.index(None)
        notes.append(
            f"no numbers of as many real images held out: {subject.source.counts[label]} of class "
            f"{real.class_names[label]!r} would be more than half of its {real.counts[label]}"
        )
    if len(set(subject.source.counts)) > 1:
        least, most = min(subject.source.counts), max(subject.source.counts)
        notes.append(f"classes have {least} to {most} images: their numbers do not compare, nor does the average")
    if few := [n for n, count in zip(real.class_names, real.counts, strict=True) if count < 6]:
        notes.append(
            f"{len(few)} classes have fewer than 6 real images (first {few[0]!r}): coverage has no 5 neighbours"
        )
    if len(real.class_names) < 2:
        notes.append("one class only: there is no interval over classes")
    return notes


def _shown(key: str) -> str:
    """A file's name as text: what is no UTF-8 on the disk cannot be written into JSON."""
    return key.encode(errors="replace").decode()


def _listing(source: Source) -> dict[str, Any]:
    """Which images these were, by name; their content is not read again."""
    named = digest([source.class_names, [digest(list(keys)) for keys in source.keys]])
    return {"name": source.name, "images": sum(source.counts), "counts": list(source.counts), "listing": named}


def _write(directory: Path, features: str, whole: dict[str, Any]) -> Path:
    kind = re.sub(r"[^a-z0-9]+", "-", whole["settings"]["features"].lower()).strip("-")
    path = directory / "metrics" / f"{kind}-{whole['digest']}.json"
    with refusals(path):
        write_json(path, whole)
    return path
