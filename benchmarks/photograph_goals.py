"""The goals on photographs against everything `photographs.py` has measured: what holds, is level, is missed.

    python benchmarks/photograph_goals.py

results/photograph_goals.md, and the short form of it in docs/results.md. A goal: `dap` is above unguided samples,
random real images and `dap-paper` by more than the sum of the two standard errors over sets, at every IPC, to every
network, and at or above k-means selection at IPC 10.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from dap.disk import write_whole
from photograph_accuracy import margin, values
from photograph_settings import REAL, SECOND, SETTINGS
from record import RESULTS, mean_and_error

PAGE, MARK = Path(__file__).parent.parent / "docs" / "results.md", "<!-- goals: written by photograph_goals.py -->"
RIVALS = {"unguided": "unguided", "random": "random real", "dap-paper": "`dap-paper`", "kmeans": "k-means, IPC 10"}
WORDS = {"holds": "hold", "level": "level", "missed": "missed", "one": "with one set", "not": "not measured"}
NETWORKS = {"convnet-3": "ConvNet-3", "convnet-4": "ConvNet-4", "resnetap-10": "ResNetAP-10", "resnet-18": "ResNet-18"}
FORMER = ", former preset"
NAMED = {"imagenette-gpu": "ImageNette, 64 px", "imagenette-cpu": "ImageNette, 32 px", "cifar10-cpu": "CIFAR-10, 32 px"}


def verdict(mine: dict[int, float], theirs: dict[int, float], enough: bool = False) -> str:
    """What is known of one goal, with the difference and, in brackets, the summed errors that it has to exceed.

    enough  it is enough not to be below
    """
    both, errors = margin(mine, theirs)
    if not both:
        return "not measured"
    difference = mean_and_error(both)[0]
    if len(both) == 1:
        return f"one set: {difference:+.1f}"
    holds = difference >= 0 if enough else difference > errors
    word = "holds" if holds else "level" if difference >= -errors else "**missed**"
    return f"{word} {difference:+.1f} ({errors:.1f}{'; two sets' if len(both) == 2 else ''})"


def goals(name: str, rows: dict[str, Any], setting: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Where (data, backbone, network, a former preset), IPC, and the verdict beside each rival there."""
    backbones = ("", SECOND) if any(SECOND in key for key in rows) else ("",)
    for which, network, ipc in product(backbones, setting["networks"], setting["ipcs"]):
        last = {
            method: values(rows, f"worth | {network} | {method}{'' if method in REAL else which} | {ipc}", "last")
            for method in (*RIVALS, "dap", "former dap")
        }
        mine = last["dap"] or last["former dap"]
        note = FORMER if mine and not last["dap"] else ""
        if mine or not which:
            asked = [rival for rival in RIVALS if rival != "kmeans" or ipc == 10]
            found = {rival: verdict(mine, last[rival], enough=rival == "kmeans") for rival in asked}
            yield f"{NAMED[name]}{which}, {NETWORKS[network]}{note}", ipc, found


def all_goals() -> list[tuple[str, int, dict[str, str]]]:
    """Of every setting that has made sets for the test data."""
    found: list[tuple[str, int, dict[str, str]]] = []
    for name in NAMED:
        rows = json.loads((RESULTS / f"photographs_{name}.json").read_text())["rows"]
        found += goals(name, rows, {"networks": SETTINGS[name].networks, "ipcs": SETTINGS[name].ipcs})
    return found


def word(text: str) -> str:
    """Which of WORDS a verdict is."""
    return text.split(" ")[0].strip("*:")


def count(found: list[tuple[str, int, dict[str, str]]]) -> str:
    """How many of each verdict."""
    words = Counter(word(text) for *_, verdicts in found for text in verdicts.values())
    said = ", ".join(f"{words[each]} {text}" for each, text in WORDS.items() if words[each])
    return f"Of {words.total()} goals: {said}."


def table(found: list[tuple[str, int, dict[str, str]]]) -> str:
    """Markdown: a line a place, then how many of each verdict."""
    lines = [
        "# Goals on photographs",
        "",
        "`dap` minus each rival, in points of the last accuracy (mean over the sets that both have), and in brackets"
        " the sum of the two standard errors over sets (three, unless said), which the difference has to exceed (for"
        " k-means, it is enough not to be below). Where one of the two has one set there is no error and no verdict."
        " From the rows in `photographs_*.json`, which say what was scaled. Script: `benchmarks/photograph_goals.py`.",
        "",
        "| | IPC | " + " | ".join(RIVALS.values()) + " |",
        "|---|--:|" + "---|" * len(RIVALS),
    ]
    for where, ipc, verdicts in found:
        lines.append(f"| {where} | {ipc} | " + " | ".join(verdicts.get(rival, "") for rival in RIVALS) + " |")
    return "\n".join([*lines, "", count(found)]) + "\n"


def short(found: list[tuple[str, int, dict[str, str]]]) -> str:
    """Markdown for the page: a line a network, and in each cell what does not simply hold."""
    ipcs = sorted({ipc for _, ipc, _ in found})
    places = dict.fromkeys(where.replace(FORMER, "") for where, *_ in found)
    lines = ["| | " + " | ".join(f"IPC {ipc}" for ipc in ipcs) + " |", "|---|" + "---|" * len(ipcs)]
    for place in places:
        cells = {ipc: summary(where, verdicts) for where, ipc, verdicts in found if where.replace(FORMER, "") == place}
        lines.append(f"| {place} | " + " | ".join(cells.get(ipc, "") for ipc in ipcs) + " |")
    return "\n".join([*lines, "", count(found)])


def summary(where: str, verdicts: dict[str, str]) -> str:
    """One cell: which goals hold, then the others with what is known."""
    names = {rival: RIVALS[rival].removesuffix(", IPC 10").removesuffix(" real") for rival in verdicts}
    by = {each: [rival for rival, text in verdicts.items() if word(text) == each] for each in WORDS}
    if len(by["not"]) == len(verdicts):
        return "not measured"
    parts = []
    if by["holds"]:
        held = "all" if len(by["holds"]) == len(verdicts) else ", ".join(names[rival] for rival in by["holds"])
        parts.append(f"{held} hold" if held == "all" else f"above {held}")
    parts += [f"level with {names[rival]} ({points(verdicts[rival])})" for rival in by["level"]]
    parts += [f"**below {names[rival]}** ({points(verdicts[rival])})" for rival in by["missed"]]
    parts += [f"{points(verdicts[rival])} over {names[rival]} (one set)" for rival in by["one"]]
    if by["not"]:
        parts.append(f"not measured: {', '.join(names[rival] for rival in by['not'])}")
    return ("former preset: " if FORMER in where else "") + "; ".join(parts)


def points(text: str) -> str:
    """The difference in a verdict."""
    return next(part for part in text.split(" ") if part[0] in "+-")


def page(text: str, found: list[tuple[str, int, dict[str, str]]]) -> str:
    """The page, with the short form between its marks."""
    before, _, after = text.split(MARK)
    return f"{before}{MARK}\n\n{short(found)}\n\n{MARK}{after}"


if __name__ == "__main__":
    measured = all_goals()
    write_whole(RESULTS / "photograph_goals.md", table(measured).encode())
    write_whole(PAGE, page(PAGE.read_text(), measured).encode())
    print(table(measured))
