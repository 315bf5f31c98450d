"""What `dap evaluate` says of a result: remarks, the tables that a person reads, and how to read them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dap.commands.tables import accuracy_table, percent
from dap.evaluation.matrix import Ahead, Worker
from dap.evaluation.protocols import PROTOCOLS
from dap.evaluation.table import footnotes, write_table
from dap.terminal import Talk, counted

LONG = 1500  # steps of one training: beyond those of any with hard-tiny, and minutes on a CPU


def outlook(ahead: Ahead) -> str:
    """What is about to be trained, before it takes the time that it takes."""
    kept = f", {ahead.kept} more are known from earlier" if ahead.kept else ""
    what = f"protocol {ahead.protocol.name}, {', '.join(ahead.networks)}: "
    if not ahead.trainings:
        return f"{what}all {counted(ahead.kept, 'training')} are known from earlier"
    what += f"{counted(ahead.trainings, 'training')} of {ahead.steps / ahead.trainings:,.0f} steps{kept}"
    published = ahead.protocol.name in PROTOCOLS and ahead.protocol.labels == "hard"
    long = ahead.device == "cpu" and ahead.steps > LONG * ahead.trainings
    return what + ("; on a CPU, for a first look: --protocol hard-tiny --repeats 1" if long and published else "")


def remarks(result: Mapping[str, Any], scores: bool = False) -> list[str]:
    """What a person should hear about a result, a line each; `scores`: whether LRS and ARS were asked for."""
    lines = []
    if result["kept"]:
        every, where = result["kept"] + result["measured"], kept_in(result)
        lines.append(f"{result['kept']} of {every} trainings were measured earlier (kept in {where})")
    if result["cache"] is None:
        lines.append(
            "no cache could be written: trainings of baselines and plain folders are not kept; name one: --cache DIR"
        )
    lines += dict.fromkeys(f"{row['set']}: {note}" for row in result["results"] for note in row["notes"])
    lines += behind_random(result["results"])
    lines += dict.fromkeys(
        f"LRS and ARS of {row['set']}: missing are {', '.join(row['missing'])}"
        + (f"; {row['remedy']}" if row["remedy"] else "")
        for row in result["scores"]
        if scores and row["missing"]
    )
    looking = [row for row in result["results"] if _mostly_looks(row, result["test"]["images"])]
    if looking and result["measured"]:
        lines.append(
            f"most of the time went into {looking[0]['evaluations']} looks at the test data a run:"
            " --set evaluation.evaluations=10 gives the same last accuracy sooner (and a best of 10)"
        )
    return lines


def behind_random(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each set that a network learns less from than from as many random real images."""
    random = {(row["network"], row["ipc"]): row for row in rows if row["source"] is not None and row["set"] == "random"}
    out = []
    for row in rows:
        real = random.get((row["network"], row["ipc"]))
        if real is not None and row["source"] is None and row["last"]["mean"] < real["last"]["mean"]:
            own, theirs = (100 * one["last"]["mean"] for one in (row, real))
            out.append(
                f"{row['set']} is worth less to {row['network']} than as many random real images ({own:.1f} against "
                f"{theirs:.1f} %): look at its images, and at the backbone's own (dap distill --guidance none)"
            )
    return out


def kept_in(result: Mapping[str, Any]) -> str:
    """Where the trainings of earlier calls lie: beside distilled sets, in the cache for plain folders and baselines."""
    parts = (result[name] for name in ("results", "without_augmentation", "hard_labels"))
    kept = [row for part in parts for row in part if row["kept"]]
    own = {Path(file).parents[1] for file in result["files"]}
    beside = [row["source"] is None and Path(row["set"]).expanduser() in own for row in kept]
    places = ["the sets' evaluation/cells"] if any(beside) else []
    return " and ".join(places if all(beside) else [*places, homely(str(result["cache"]))])


def homely(path: str) -> str:
    """A path with ~ for the home directory."""
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if path.startswith(f"{home}{os.sep}") else path


def say_more(result: Mapping[str, Any], tables: Sequence[Path], talk: Talk, *, scores: bool) -> None:
    """Writes the tables that were asked for, and says what a person should hear."""
    for table in tables:
        write_table(result, table)
    for line in remarks(result, scores):
        talk.say(line)
    for written in [*result["files"], *tables]:
        talk.say(f"wrote {written}")


def say_result(result: Mapping[str, Any], talk: Talk) -> None:
    """The answer on stdout and the next command; one of several processes, the first, gives it for all."""
    if Worker.here().rank:
        return
    scaled = ", scaled" if result["scaled"] else ""
    title = f"{result['protocol']}{scaled} on {result['test']['name']}, {result['test']['images']} images"
    talk.result(result, shown(title, result))
    if result["files"]:
        talk.next(["dap", "report", *(str(Path(file).parents[1]) for file in result["files"])])


def shown(title: str, result: Mapping[str, Any]) -> RenderableType:
    """What goes to the terminal: accuracies, both spreads, scores, and how to read them."""
    parts: list[RenderableType] = [accuracy_table(title, result["results"])]
    if result["across_sets"]:
        parts.append(_spreads(result["across_sets"]))
    ranked = [row for row in result["scores"] if row["lrs"] or row["ars"]]
    if ranked:
        parts.append(_scores(ranked))
    return Group(*parts, *(escape(line) for line in footnotes(result)))


def _spreads(groups: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="sets that differ in their generation seed")
    for name in ("network", "images per class", "sets", "last %", "sd between sets", "sd between training seeds"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for group in groups:
        spreads = ["" if group[key] is None else f"{100 * group[key]:.1f}" for key in ("sd_sets", "sd_repeats")]
        mean = f"{100 * group['mean']:.1f}"
        table.add_row(group["network"], str(group["ipc"]), str(len(group["sets"])), mean, *spreads)
    return table


def _scores(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="DD-Ranking scores, 0 to 100")
    for name in ("set", "images per class", "network", "LRS", "ARS"):
        table.add_column(name, justify="left" if name in ("set", "network") else "right")
    for row in rows:
        values = ["" if row[key] is None else percent(row[key]) for key in ("lrs", "ars")]
        table.add_row(escape(str(row["set"])), str(row["ipc"]), row["network"], *values)
    return table


def _mostly_looks(row: Mapping[str, Any], test_images: int) -> bool:
    """Whether judging costs more than training, a training pass being three forward passes."""
    looks, trained = int(row["evaluations"]), int(row["steps"]) * int(row["batch"])
    return looks > 1 and looks * test_images > 3 * trained
