"""Which images are made, from which seeds, in which chunks: arithmetic, independent of any worker.

    class names, ipc, run seed  ->  Unit(label, index, seed) ...  ->  Chunk(id, units) ...

A chunk holds whole classes where it can; a class larger than a chunk is cut into runs, unless the images of
one class influence each other (`whole_classes`): then the class is one chunk of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from dap.config import require
from dap.errors import StoreError
from dap.types import Chunk, Unit

_REPLAN = "delete plan.json and run the same command again"


def seed_of(run_seed: int, class_name: str, index: int) -> int:
    """The seed of image `index` of a class, 0 .. 2**63 - 1: the same whatever else is made, now or later.

    The three are encoded as a JSON list, so no two triples share an encoding ("a", 11 is not "a1", 1).
    """
    text = json.dumps([run_seed, class_name, index], ensure_ascii=True)
    return int.from_bytes(blake2b(text.encode("ascii"), digest_size=8).digest(), "big") >> 1


def plan_chunks(
    class_names: Sequence[str],
    ipc: int,
    run_seed: int,
    *,
    chunk: int,
    whole_classes: bool,
    done: Sequence[Chunk] = (),
) -> tuple[Chunk, ...]:
    """Chunks that together hold each (label, index) once, `ipc` images per class, in class order.

    class_names    distinct; the position is the label
    chunk          images per chunk, 1 or more; only a class under `whole_classes` may exceed it
    whole_classes  True when a guidance couples the images of one class: they must share a chunk
    done           chunks of an earlier, smaller plan: kept as they are in front, only the rest is planned

    Raises ConfigError for counts below 1, names that occur twice, and a `done` that is no part of this plan.
    """
    require(len(class_names) > 0, "there are no classes to plan for; check --data")
    require(ipc >= 1, f"ipc is {ipc}; images per class must be 1 or more (--ipc 10 is usual)")
    require(chunk >= 1, f"run.chunk is {chunk}; use 1 or more")
    twice = [name for name, count in Counter(class_names).items() if count > 1]
    require(not twice, f"class {twice[:1]} occurs twice; rename one of the two")
    planned = _check_done(class_names, ipc, run_seed, done)
    chunks = list(done)
    for units in _fill(_missing(class_names, ipc, run_seed, planned, whole_classes), chunk, whole_classes):
        chunks.append(Chunk(len(chunks), tuple(units)))
    return tuple(chunks)


def _check_done(class_names: Sequence[str], ipc: int, run_seed: int, done: Sequence[Chunk]) -> set[tuple[int, int]]:
    planned = set()
    for position, chunk in enumerate(done):
        require(
            chunk.id == position,
            f"chunk {chunk.id} of the earlier plan stands at position {position}; delete plan.json",
        )
        for unit in chunk.units:
            require(
                unit.index < ipc,
                f"ipc is {ipc}, but image {unit.index} of a class is planned already; "
                f"use --ipc {unit.index + 1} or more, or another --out",
            )
            fits = unit.label < len(class_names) and unit.seed == seed_of(run_seed, class_names[unit.label], unit.index)
            require(
                fits,
                f"the earlier plan has other classes or another seed than {run_seed}; choose another --out",
            )
            planned.add((unit.label, unit.index))
    return planned


def _missing(
    class_names: Sequence[str], ipc: int, run_seed: int, planned: set[tuple[int, int]], whole_classes: bool
) -> Iterator[list[Unit]]:
    """The images of each class that no earlier chunk holds, class by class."""
    for label, name in enumerate(class_names):
        units = [Unit(label, i, seed_of(run_seed, name, i)) for i in range(ipc) if (label, i) not in planned]
        require(
            not whole_classes or len(units) in (0, ipc),
            f"ipc is {ipc}, but the earlier plan has {ipc - len(units)} images of {name!r}, and "
            "under this guidance the images of a class depend on each other; choose another --out",
        )
        if units:
            yield units


def _fill(classes: Iterable[list[Unit]], chunk: int, whole_classes: bool) -> Iterator[list[Unit]]:
    """Whole classes into one chunk while they fit; a class too large for one into even runs of its own."""
    pending: list[Unit] = []
    for units in classes:
        if pending and len(pending) + len(units) > chunk:
            yield pending
            pending = []
        if len(units) <= chunk:
            pending = pending + units
        elif whole_classes:
            yield units
        else:
            run = -(-len(units) // -(-len(units) // chunk))  # even runs: no pass for a last image alone
            yield from (units[at : at + run] for at in range(0, len(units), run))
    if pending:
        yield pending


def only(chunks: Sequence[Chunk], label: int, index: int | None = None) -> tuple[Chunk, ...]:
    """The chunks that hold images of class `label`, or its image `index`. Raises ConfigError for none."""
    chosen = tuple(c for c in chunks if any(u.label == label and (index is None or u.index == index) for u in c.units))
    what = f"class {label}" if index is None else f"image {index} of class {label}"
    require(
        bool(chosen),
        f"{what} is not in the plan; labels and images count from 0, see --ipc and --only CLASS[:INDEX]",
    )
    return chosen


def to_record(chunks: Iterable[Chunk]) -> list[list[list[int]]]:
    """[[[label, index, seed], ...], ...], one list per chunk, fit for JSON."""
    return [[[u.label, u.index, u.seed] for u in c.units] for c in chunks]


def from_record(record: Any) -> tuple[Chunk, ...]:
    """The chunks that `to_record` wrote. Raises StoreError for anything that it cannot have written."""
    if not isinstance(record, list):
        raise StoreError(f"the plan is a {type(record).__name__}, not a list of chunks; {_REPLAN}")
    chunks: list[Chunk] = []
    seen: set[tuple[int, int]] = set()
    for number, rows in enumerate(record):
        if not isinstance(rows, list) or not rows:
            raise StoreError(f"chunk {number} of the plan is {str(rows)[:60]!r}; {_REPLAN}")
        units = tuple(_unit(row, number) for row in rows)
        for unit in units:
            if (unit.label, unit.index) in seen:
                raise StoreError(f"image {unit.index} of class {unit.label} is planned twice; {_REPLAN}")
            seen.add((unit.label, unit.index))
        chunks.append(Chunk(number, units))
    return tuple(chunks)


def _unit(row: Any, number: int) -> Unit:
    # type(), not isinstance(): True is an int, and JSON's true must not pass for label 1
    if isinstance(row, list) and len(row) == 3 and all(type(v) is int and 0 <= v < 2**63 for v in row):
        return Unit(*row)
    raise StoreError(f"chunk {number} of the plan has {str(row)[:60]!r} for [label, index, seed]; {_REPLAN}")
