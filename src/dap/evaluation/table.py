"""One result as a table in the shape of the papers': a row for each network and IPC, a column for each method.

Sets made in one way (equal recipes) share a column, whatever their IPC; several generation seeds of one IPC share a
cell, whose spread is then the one between sets. Other folders have a column each, baselines theirs, and published
figures come last, marked so. CSV holds fractions, Markdown per cent: last ± sd (best).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.disk import refusals, write_whole
from dap.errors import ConfigError
from dap.evaluation.scores import score

Row = Mapping[str, Any]
KEYS = ("network", "image_size", "ipc")  # what tells rows apart; the full data stand in every row of their network


@dataclass(frozen=True)
class Value:
    """Fractions. `sets` distilled sets stand behind it, 0 for a published figure, which has no last accuracy."""

    last: float | None
    sd: float | None
    best: float
    sets: int = 1


@dataclass(frozen=True)
class Grid:
    """`keys[r]` are a row's network, image size and IPC; `cells[r, column]` its values."""

    keys: tuple[tuple[str, int, int], ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[int, str], Value]


def check_table(path: str | Path) -> None:
    """Raise ConfigError for a name that is neither .csv nor .md: to be asked before hours of training."""
    if Path(path).suffix.lower() not in (".csv", ".md"):
        raise ConfigError(f"--table {str(path)!r} is neither a .csv nor a .md file; name it so, e.g. results.md")


def write_table(result: Row, path: str | Path) -> None:
    """Writes the table, as CSV or Markdown by the file's name. Raises: ConfigError, StoreError."""
    check_table(path)
    path = Path(path)
    text = as_csv(grid_of(result)) if path.suffix.lower() == ".csv" else as_markdown(result)
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())


def grid_of(result: Row) -> Grid:
    """The rows of an `evaluate` result, sorted into networks x IPC and methods."""
    rows = result["results"]
    keys = list(dict.fromkeys(_key(row) for row in rows if row["ipc"] is not None))
    keys = keys or [(row["network"], row["image_size"], 0) for row in rows]
    names = _columns(rows)
    cells: dict[tuple[int, str], Value] = {}
    for r, key in enumerate(keys):
        for column in dict.fromkeys(names):
            found = [row for row, name in zip(rows, names, strict=True) if name == column and _stands_in(row, key)]
            if found:
                cells[r, column] = _together(found)
    columns = list(dict.fromkeys(names))
    for r, key in enumerate(keys):
        for figure in _published(row for row in rows if _stands_in(row, key)):
            column = f"{figure['method']}, published"
            cells[r, column] = Value(None, figure["sd"], figure["mean"], sets=0)
            columns.append(column)
    return Grid(tuple(keys), tuple(dict.fromkeys(columns)), cells)


def as_csv(grid: Grid) -> str:
    """Fractions; three columns a method: last, sd, best. A published figure is a best accuracy."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = ("last", "sd", "best")
    writer.writerow(["network", "image_size", "ipc", *(f"{name} {part}" for name in grid.columns for part in parts)])
    for r, key in enumerate(grid.keys):
        values: list[Any] = []
        for column in grid.columns:
            value = grid.cells.get((r, column))
            values += ["", "", ""] if value is None else [value.last, value.sd, value.best]
        writer.writerow([*key, *("" if v is None else v if isinstance(v, str) else f"{v:.6g}" for v in values)])
    return file.getvalue()


def as_markdown(result: Row) -> str:
    """Per cent, with what a reader must know below."""
    grid = grid_of(result)
    head = ["network", "px", "IPC", *map(_escaped, grid.columns)]
    lines = ["| " + " | ".join(head) + " |", "|---|--:|--:|" + "--:|" * len(grid.columns)]
    for r, (network, size, ipc) in enumerate(grid.keys):
        cells = [_percent(grid.cells.get((r, column))) for column in grid.columns]
        lines.append("| " + " | ".join([network, str(size), str(ipc or "all"), *cells]) + " |")
    return "\n".join([*lines, "", "Per cent: last ± sd (best).", *footnotes(result)]) + "\n"


def footnotes(result: Row) -> list[str]:
    """What the numbers are, a line each."""
    test, rows = result["test"], result["results"]
    *fewer, most = sorted({row["evaluations"] for row in rows})
    looks = [*map(str, fewer), _counted(most, "look")]
    scaled = f", scaled by {result['settings']['evaluation']['epochs_scale']:g}: not comparable with other results"
    lines = [
        f"Protocol {result['protocol']}{scaled if result['scaled'] else ''}; {test['part']} data {test['name']},"
        f" {test['images']} images; {_counted(rows[0]['repeats'], 'training seed')}.",
        f"Last accuracy ± sd over training seeds is the headline; best, of {' or '.join(looks)} at the"
        f" {test['part']} data, flatters.",
    ]
    if any(row["image_size"] > test["stored_size"] for row in rows):
        lines.append(f"The {test['part']} images are of {test['stored_size']} px and were enlarged.")
    if teacher := result["teacher"]:
        lines.append(
            f"Labels: those of teacher {teacher['name']}, which gets {teacher['accuracy']:.1%} on these data itself."
        )
    if result["across_sets"]:
        lines.append("Where several generation seeds share a cell of a table, ± is the sd between sets.")
    sources = {figure["source"] for row in rows for figure in row["published"]}
    if sources:
        lines.append(
            f"Published: {'; '.join(sorted(sources))}; the best of 100 looks at ILSVRC's 50 validation images a class"
            f" (here {test['counts'][0]} of the first class): beside our best, not our last."
        )
    return lines


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _columns(rows: Sequence[Row]) -> list[str]:
    """The column of each row: a method's name where only one recipe has it, else the set's own."""
    recipes: dict[str, set[str]] = {}
    for row in rows:
        if row["recipe"] is not None and row["method"] is not None:
            recipes.setdefault(row["method"], set()).add(row["recipe"])
    shared = {method for method, found in recipes.items() if len(found) == 1}
    baselines = {row["method"] for row in rows if row["source"] is not None}
    return [
        row["method"] if row["source"] is not None or row["method"] in shared - baselines else row["set"]
        for row in rows
    ]


def _key(row: Row) -> tuple[str, int, int]:
    return row["network"], row["image_size"], row["ipc"]


def _stands_in(row: Row, key: tuple[str, int, int]) -> bool:
    return (row["network"], row["image_size"]) == key[:2] and row["ipc"] in (None, key[2])


def _together(rows: Sequence[Row]) -> Value:
    if len(rows) == 1:
        return Value(rows[0]["last"]["mean"], rows[0]["last"]["sd"], rows[0]["best"]["mean"])
    lasts, bests = (score([row[kind]["mean"] for row in rows]) for kind in ("last", "best"))
    return Value(lasts.mean, lasts.sd, bests.mean, len(rows))


def _published(rows: Iterable[Row]) -> list[Mapping[str, Any]]:
    """Each published figure once, full data last."""
    found = {figure["method"]: figure for row in rows for figure in row["published"]}
    return sorted(found.values(), key=lambda figure: figure["method"] == "Full")


def _percent(value: Value | None) -> str:
    if value is None:
        return ""
    spread = "" if value.sd is None else f" ± {100 * value.sd:.1f}"
    if value.last is None:
        return f"({100 * value.best:.1f}{spread})"
    return f"{100 * value.last:.1f}{spread} ({100 * value.best:.1f})"


def _escaped(name: str) -> str:
    return name.replace("|", "\\|").replace("\n", " ")
