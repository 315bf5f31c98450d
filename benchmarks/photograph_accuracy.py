"""Accuracies of what `photographs.py` judged, a table a network and backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from photograph_settings import GUIDED, MIDDLES, SECOND
from record import mean_and_error

NAMES = {"random": "random real", "herding": "herding, real", "kmeans": "k-means-nearest real"}
ORDER = (*NAMES, "unguided", "dap-paper", *reversed(GUIDED))


def values(rows: dict[str, Any], start: str, pick: str) -> dict[int, float]:
    """seed -> number, of the rows "start | seed"."""
    return {int(k.rpartition(" | ")[2]): 100 * row[pick] for k, row in rows.items() if k.rpartition(" | ")[0] == start}


def cell(found: dict[int, float]) -> str:
    """Mean ± standard error over generation seeds."""
    if not found:
        return ""
    mean, error = mean_and_error(list(found.values()))
    return f"{mean:.1f}" + ("" if error is None else f" ± {error:.1f}")


def scaled(about: dict[str, Any], network: str) -> str:
    """How much of the protocol's epochs a network's trainings had, where not all."""
    share, further = about["setting"]["networks"][network], about["setting"].get("shares", {})
    cut = "".join(f" ({share * factor:g} at IPC {ipc})" for ipc, factor in further.items())
    return f", **scaled** {share:g}{cut}" if share != 1 else ""


def accuracy(about: dict[str, Any], network: str) -> Iterator[str]:
    """A network's tables: last accuracy (best in brackets) by method and IPC; ours minus each other, seed by seed."""
    rows = about["rows"]
    judged = {tuple(key.split(" | ")[2:4]) for key in rows if key.startswith(f"worth | {network} | ")}
    yield from (f"## {network}{scaled(about, network)}", "")
    yield from compared(about, network, {pair for pair in judged if not pair[0].endswith(SECOND)}, "dap")
    again = {pair for pair in judged if pair[0].endswith(SECOND)}
    if again:
        yield "The same from a second backbone, trained with another seed, beside the same real images"
        yield from (
            "(`dap-paper` with the gamma chosen on the first, `dap` with the strength that it finds itself):",
            "",
        )
        yield from compared(about, network, again | {pair for pair in judged if pair[0] in NAMES}, f"dap{SECOND}")
    whole = values(rows, f"worth | {network} | full | all", "last")
    if whole:
        part = about["setting"].get("full_share", 1.0)
        cut = f" (**scaled** {about['setting']['networks'][network] * part:g})" if part != 1 else ""
        yield from (f"All real images{cut}: {cell(whole)}.", "")


def compared(about: dict[str, Any], network: str, judged: set[tuple[str, ...]], ours: str) -> Iterator[str]:
    """One table, of the (method, IPC) that were judged."""
    rows = about["rows"]
    ipcs = [ipc for ipc in about["setting"]["ipcs"] if str(ipc) in {of for _, of in judged}]
    both = [ipc for ipc in ipcs if (ours, str(ipc)) in judged]
    heads = [f"IPC {ipc}" for ipc in ipcs] + [f"`dap` minus it, IPC {ipc}" for ipc in both]
    yield "| method | " + " | ".join(heads) + " |"
    yield "|---|" + "--:|" * len(heads)
    for method in [name for name in methods(rows, f"worth | {network} | ") if name in {name for name, _ in judged}]:
        cells, differences = [], []
        for ipc in ipcs:
            mine, theirs = (values(rows, f"worth | {network} | {name} | {ipc}", "last") for name in (ours, method))
            best = values(rows, f"worth | {network} | {method} | {ipc}", "best")
            fewer = f", {len(theirs)} sets" if 1 < len(theirs) < about["setting"]["seeds"] else ""
            cells.append(f"{cell(theirs)} ({cell(best).partition(' ')[0]}{fewer})" if theirs else "")
            drawn = method not in ("herding", *MIDDLES) and (method, ipc) != ("kmeans", 1)
            if ipc in both:
                differences.append(difference(mine, theirs, drawn) if method != ours else "")
        yield f"| {NAMES.get(method, method)} | " + " | ".join(cells + differences) + " |"
    yield ""


def methods(rows: dict[str, Any], start: str) -> list[str]:
    """Real selections, rivals, variants, those of former choices, `dap` last; then the same of a second backbone."""
    there = {key.removeprefix(start).split(" | ")[0] for key in rows if key.startswith(start)} - {"full"}
    further = there.difference(ORDER)
    second = [name for name in (f"{name}{SECOND}" for name in ORDER) if name in further]
    return [*ORDER[:-1], *sorted(further.difference(second)), ORDER[-1], *second]


def difference(mine: dict[int, float], theirs: dict[int, float], drawn: bool = True) -> str:
    """Ours minus theirs over the seeds that both have (a set that draws nothing serves all of ours); then in brackets
    the sum of the two means' standard errors, which a goal asks it to exceed; without errors where one has one set."""
    if not drawn and len(theirs) == 1:
        theirs = dict.fromkeys(mine, *theirs.values())
    both = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    if not both:
        return ""
    mean, error = mean_and_error(both)
    errors = [mean_and_error(list(found.values()))[1] or 0.0 for found in (mine, theirs)]
    return f"{mean:+.1f}" if error is None else f"{mean:+.1f} ± {error:.1f} ({sum(errors):.1f})"
