"""A distilled set as a report sees it: what lies in its directory, read tolerantly, with what is missing in words.

Only the store's own files decide which images exist; evaluations, metrics and traces are JSON that other commands
wrote, perhaps other versions: a field that is not there is left out, a file that cannot be read becomes a warning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.card import share_begun
from dap.data import open_dataset
from dap.disk import AGAIN
from dap.errors import StoreError
from dap.guidance.options import START
from dap.reporting.results import Result, number, results_of
from dap.seal import read_sealed
from dap.store import Store


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of the plan that was made; `there` says whether its file still is."""

    label: int
    index: int
    seed: int
    chunk: int
    path: Path
    there: bool


@dataclass(frozen=True, kw_only=True)
class SetView:
    """A set and all that is known of it, results and measurements by file, newest last.

    given, name  as the user wrote it, for commands; and as people read it among other sets
    metrics      the measurement that is shown: the newest
    warnings     what is wrong or unfinished; `remarks`: what looks wrong and need not be
    """

    given: str
    name: str
    store: Store
    pictures: tuple[Picture, ...]
    results: tuple[Result, ...]
    measured: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any] | None
    traces: tuple[Mapping[str, Any], ...]
    seconds: float | None
    devices: tuple[str, ...]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration by table."""
        found = self.store.config["config"]
        return found if isinstance(found, dict) else {}

    def table(self, name: str) -> Mapping[str, Any]:
        """One table of the configuration, {} when it is not there."""
        found = self.config.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def ipc(self) -> int:
        """Images of the smallest class that has any."""
        counts = Counter(picture.label for picture in self.pictures)
        return min(counts.values()) if counts else 0


def read_set(given: str | Path) -> SetView:
    """What a directory holds. Raises: StoreError for what is no distilled set, with what is there instead."""
    path = Path(given).expanduser()
    store = Store.open(path)
    warnings: list[str] = []
    pictures, markers = tuple(_pictures(store)), list(_markers(store, warnings))
    measured = tuple(r for r in _records(path / "metrics", warnings) if isinstance(r.get("representativeness"), dict))
    metrics = measured[-1] if measured else None
    _tell_missing(store, pictures, warnings)
    _tell_stale(metrics, pictures, warnings)
    many, grouped = _near_copies(metrics, share_begun(store.config)), _grouped(store)
    if many and not grouped:
        warnings.append(f"{many}: look at them before you publish the set")
    for marker in markers:
        warnings += [f"chunk {marker.get('chunk')}: {note}" for note in marker.get("notes", ())]
    skipped = (store.config.get("real_images") or {}).get("skipped") or []
    if skipped:
        named = ", ".join(str(entry[0]) for entry in skipped[:5])
        warnings.append(f"{len(skipped)} real images could not be read and were left out: {named}")
    seconds = [marker["seconds"] for marker in markers if isinstance(marker.get("seconds"), int | float)]
    return SetView(
        given=str(given),
        name=str(given),
        store=store,
        pictures=pictures,
        results=_of_these_images(path, pictures, results_of(_records(path / "evaluation", warnings)), warnings),
        measured=measured,
        metrics=metrics,
        traces=tuple(_traces(path / "trace", warnings)),
        seconds=sum(seconds) if seconds else None,
        devices=tuple(sorted({str(marker["device"]) for marker in markers if "device" in marker})),
        warnings=tuple(dict.fromkeys(warnings)),
        remarks=(many,) if many and grouped else (),
    )


def _pictures(store: Store) -> Iterator[Picture]:
    for row in store.rows():
        path = store.path / row["path"]
        yield Picture(
            label=row["label"],
            index=row["index"],
            seed=row["seed"],
            chunk=row["chunk"],
            path=path,
            there=path.is_file(),
        )


def _markers(store: Store, warnings: list[str]) -> Iterator[dict[str, Any]]:
    for chunk in store.chunks:
        path = store.path / "chunks" / f"{chunk.id:05d}.json"
        if path.exists():
            try:
                yield read_sealed(path, AGAIN)
            except StoreError as error:
                warnings.append(str(error))


def _tell_missing(store: Store, pictures: Sequence[Picture], warnings: list[str]) -> None:
    gone = [p for p in pictures if not p.there]
    if gone:
        first = gone[0].path.relative_to(store.path).as_posix()
        warnings.append(f"{len(gone)} images have been deleted (first {first}): the same dap distill makes them again")
    if unmade := store.planned - len(pictures):
        warnings.append(f"{unmade} of {store.planned} planned images are not made yet: {AGAIN}")


def _tell_stale(metrics: Mapping[str, Any] | None, pictures: Sequence[Picture], warnings: list[str]) -> None:
    if metrics is not None and metrics.get("images") != len(pictures):
        warnings.append(
            f"the metrics are of {metrics.get('images')} images, the set has {len(pictures)}: measure again"
        )


def _grouped(store: Store) -> bool:
    """Whether guidance aimed each image at a group of real images, near whose middle it so lies; of images that began
    later than half way at real ones that is not why they are near.
    """
    guidance = (store.config.get("config") or {}).get("guidance") or {}
    return bool(guidance.get("reference") == "cluster") and share_begun(store.config) >= START


def _near_copies(metrics: Mapping[str, Any] | None, begun: float) -> str | None:
    """A sentence where there are more than among held-out real images, or that is not known.

    Where images were aimed at groups that says little: the middle is nearer to each than they are to each other.
    begun  the share of the steps that images took from a real one on
    """
    share = number(metrics or {}, "near_copies", "mean")
    usual = number((metrics or {}).get("yardstick") or {}, "near_copies", "mean")
    if not share or (usual is not None and share <= usual):
        return None
    beyond = "" if usual is None else f", against {100 * usual:.0f} % of held-out real images"
    from_real = "" if begun == 1 else f"; each began at a real image and took the last {100 * begun:.0f} % of the steps"
    return (
        f"{100 * share:.0f} % of the images lie closer to a training image than its nearest real neighbour does"
        f"{beyond}{from_real}"
    )


def _records(folder: Path, warnings: list[str], pattern: str = "*.json") -> list[dict[str, Any]]:
    """The JSON objects in a folder, oldest first, each with its "file"."""
    paths = [p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith(".")]
    out = []
    for path in sorted(paths, key=lambda p: (p.stat().st_mtime, p.name)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            out.append({**record, "file": path.relative_to(folder.parent).as_posix()})
        else:
            warnings.append(f"{path.relative_to(folder.parent).as_posix()} cannot be read as JSON: make it again")
    return out


def _of_these_images(
    path: Path, pictures: Sequence[Picture], results: Iterable[Result], warnings: list[str]
) -> tuple[Result, ...]:
    """The results without those of files that another set left, or this one when it had other images."""
    every: tuple[Result, ...] = tuple(results)
    told = {one.file: str(one.row["digest"]) for one in every if not one.baseline and one.row.get("digest")}
    if not told or not all(picture.there for picture in pictures):
        return every
    now = open_dataset(str(path)).digest
    stale = sorted(file for file, digest in told.items() if digest != now)
    warnings += [f"{file} is about other images than these: it is left out, evaluate again" for file in stale]
    return tuple(one for one in every if one.file not in stale)


def _traces(folder: Path, warnings: list[str]) -> list[dict[str, Any]]:
    found = [trace for sub in sorted(folder.glob("*/")) for trace in _records(sub, warnings, "[0-9]*.json")]
    return [trace for trace in found if isinstance(trace.get("steps"), list) and trace["steps"]]
