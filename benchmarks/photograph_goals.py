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
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from scipy.stats import t

from dap.disk import write_whole
from photograph_accuracy import values
from photograph_settings import REAL, SECOND, SETTINGS, Setting
from record import RESULTS, mean_and_error

PAGE, MARK = Path(__file__).parent.parent / "docs" / "results.md", "<!-- goals: written by photograph_goals.py -->"
RIVALS = {"unguided": "unguided", "random": "random", "dap-paper": "`dap-paper`", "kmeans": "k-means"}
WORDS = {"holds": "hold", "level": "level", "missed": "missed", "one": "with one set", "not": "not measured"}
NETWORKS = {"convnet-3": "ConvNet-3", "convnet-4": "ConvNet-4", "resnetap-10": "ResNetAP-10", "resnet-18": "ResNet-18"}
NAMED = {"imagenette-gpu": "ImageNette, 64 px", "imagenette-cpu": "ImageNette, 32 px", "cifar10-cpu": "CIFAR-10, 32 px"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one goal.

    word        one of WORDS
    difference  mean accuracy of ours minus theirs, points; errors: the sum of their standard errors
    sets        of the one that has fewer
    open        the 95 % interval of the differences seed by seed contains 0
    """

    word: str
    difference: float = 0.0
    errors: float = 0.0
    sets: int = 0
    open: bool = False

    def __str__(self) -> str:
        if self.word in ("one", "not"):
            return f"one set: {self.difference:+.1f}" if self.word == "one" else WORDS[self.word]
        few = f"; {self.sets} sets" if self.sets < 3 else ""
        word = "**missed**" if self.word == "missed" else self.word
        return f"{word} {self.difference:+.1f} ({self.errors:.1f}{few}){'°' if self.open else ''}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """The goals of one network at one IPC. backbone: "" or SECOND; former: judged with sets of the former preset."""

    data: str
    backbone: str
    network: str
    ipc: int
    former: bool
    goals: dict[str, Verdict]


def verdict(mine: dict[int, float], theirs: dict[int, float], enough: bool = False) -> Verdict:
    """seed -> accuracy, twice. enough: it is enough not to be below."""
    if not mine or not theirs:
        return Verdict(word="not")
    (a, one), (b, other) = (mean_and_error(list(found.values())) for found in (mine, theirs))
    if one is None or other is None:
        return Verdict(word="one", difference=a - b, sets=1)
    holds = a >= b if enough else a - b > one + other
    word = "holds" if holds else "level" if b - a <= one + other else "missed"
    both = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    middle, error = mean_and_error(both)
    unsure = error is None or abs(middle) <= float(t.ppf(0.975, len(both) - 1)) * error
    return Verdict(word=word, difference=a - b, errors=one + other, sets=min(len(mine), len(theirs)), open=unsure)


def goals(name: str, rows: dict[str, Any], setting: Setting) -> Iterator[Place]:
    """Every network and IPC of a setting with the first backbone, and what a second one was judged at."""
    for which, network, ipc in product(("", SECOND), setting.networks, setting.ipcs):
        last = {
            method: values(rows, f"worth | {network} | {method}{'' if method in REAL else which} | {ipc}", "last")
            for method in (*RIVALS, "dap-paper, gamma 0.1", "dap", "former dap")
        }
        ours, papers = last["dap"], [last["dap-paper"], last["dap-paper, gamma 0.1"]]
        mine = ours or last["former dap"]
        last["dap-paper"] = max(papers, key=lambda found: (len(found) > 1, mean(found.values()) if found else 0.0))
        asked = [rival for rival in RIVALS if rival != "kmeans" or ipc == 10]
        if mine or not which:
            yield Place(
                data=NAMED[name],
                backbone=which,
                network=NETWORKS[network],
                ipc=ipc,
                former=bool(mine) and not ours,
                goals={rival: verdict(mine, last[rival], enough=rival == "kmeans") for rival in asked},
            )


def all_goals() -> list[Place]:
    """Of every setting that has made sets for the test data."""
    found: list[Place] = []
    for name in NAMED:
        rows = json.loads((RESULTS / f"photographs_{name}.json").read_text())["rows"]
        found += goals(name, rows, SETTINGS[name])
    return found


def count(found: list[Place]) -> str:
    """How many of each verdict, by data: of the first backbone, or where it judged nothing, of the second. The former
    preset's sets settle no goal."""
    places: dict[tuple[str, str, int], Place] = {}
    for place in found:
        there = places.setdefault((place.data, place.network, place.ipc), place)
        if all(goal.word == "not" for goal in there.goals.values()):
            places[place.data, place.network, place.ipc] = place
    lines = [counted(data, [place for place in places.values() if place.data == data]) for data in NAMED.values()]
    return (
        "Goals of the present preset (of the second backbone where the first was not judged): "
        + "; ".join(filter(None, lines))
        + "."
    )


def counted(data: str, places: list[Place]) -> str:
    """Of one dataset."""
    if not places:
        return ""
    settled = [(place, goal) for place in places for goal in place.goals.values()]
    words = Counter("not" if place.former else goal.word for place, goal in settled)
    doubtful = sum(goal.open and goal.word == "holds" and not place.former for place, goal in settled)
    lost = sum(goal.word == "missed" for place, goal in settled if place.former)
    said = ", ".join(
        f"{words[each]} {text}" + (f" ({doubtful} of them level by the 95 % interval)" if each == "holds" else "")
        for each, text in WORDS.items()
        if words[each]
    )
    return f"{data} ({words.total()}): {said}" + (f" ({lost} of them missed by the former preset)" if lost else "")


def table(found: list[Place]) -> str:
    """Markdown: a line a place, then how many of each verdict."""
    heads = [*list(RIVALS.values())[:-1], "k-means, IPC 10"]
    lines = [
        "# Goals on photographs",
        "",
        "Mean of `dap` minus mean of each rival, in points of the last accuracy, and in brackets the sum of the two"
        " standard errors over sets (three, unless said), which the difference has to exceed (for k-means, it is enough"
        " not to be below). Where one of the two has one set there is no error and no verdict. °: the 95 % interval of"
        " the differences, set by set (t distribution, so few sets make it wide), contains 0. (The tables of a setting"
        " give the mean of the differences set by set: another number where one has fewer sets.) Of `dap-paper` the"
        " better of the gammas that were judged is taken; none was searched for IPC 50. It sees 200 real images a class"
        " on CIFAR-10, 100 at 64 px. From the rows in `photographs_*.json`, which say what was scaled. Script:"
        " `benchmarks/photograph_goals.py`.",
        "",
        "| | IPC | " + " | ".join(heads) + " |",
        "|---|--:|" + "---|" * len(heads),
    ]
    for place in found:
        where = f"{place.data}{place.backbone}, {place.network}{', the former preset' if place.former else ''}"
        cells = [str(place.goals.get(rival, "")) for rival in RIVALS]
        lines.append(f"| {where} | {place.ipc} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", count(found)]) + "\n"


def short(found: list[Place]) -> str:
    """Markdown for the page: a line a network, and in each cell what does not simply hold."""
    ipcs = sorted({place.ipc for place in found})
    lines = ["| | " + " | ".join(f"IPC {ipc}" for ipc in ipcs) + " |", "|---|" + "---|" * len(ipcs)]
    for line in dict.fromkeys((place.data, place.backbone, place.network) for place in found):
        cells = {place.ipc: summary(place) for place in found if (place.data, place.backbone, place.network) == line}
        lines.append(f"| {line[0]}{line[1]}, {line[2]} | " + " | ".join(cells.get(ipc, "–") for ipc in ipcs) + " |")
    return "\n".join([*lines, "", count(found)])


def summary(place: Place) -> str:
    """One cell: which goals hold, then the others with what is known."""
    by = {word: {RIVALS[rival]: goal for rival, goal in place.goals.items() if goal.word == word} for word in WORDS}
    if len(by["not"]) == len(place.goals):
        return WORDS["not"]
    held = [
        f"{name}{f' ({goal.sets} sets)' if goal.sets < 3 else ''}{' (level, which is enough)' if level(goal) else ''}"
        for name, goal in by["holds"].items()
    ]
    parts = ["above " + ", ".join(held)] if held else []
    if len(by["holds"]) == len(place.goals) and ", ".join(held) == ", ".join(by["holds"]):
        parts = ["all hold"]
    parts += [f"level with {name} ({goal.difference:+.1f})" for name, goal in by["level"].items()]
    parts += [f"**below {name}** ({goal.difference:+.1f})" for name, goal in by["missed"].items()]
    parts += [f"{goal.difference:+.1f} over {name} (one set)" for name, goal in by["one"].items()]
    if by["not"]:
        parts.append(f"not measured: {', '.join(by['not'])}")
    return ("former preset: " if place.former else "") + "; ".join(parts)


def level(goal: Verdict) -> bool:
    """Whether what holds does so within the errors."""
    return goal.difference <= goal.errors


def page(text: str, found: list[Place]) -> str:
    """The page, with the short form between its marks."""
    before, _, after = text.split(MARK)
    return f"{before}{MARK}\n\n{short(found)}\n\n{MARK}{after}"


if __name__ == "__main__":
    measured = all_goals()
    write_whole(RESULTS / "photograph_goals.md", table(measured).encode())
    write_whole(PAGE, page(PAGE.read_text(), measured).encode())
    print(table(measured))
