"""The goals on photographs against everything `photographs.py` has measured: what holds, is level, is missed.

    python benchmarks/photograph_goals.py

results/photograph_goals.md. A goal: `dap` is above unguided samples, random real images and `dap-paper` by more than
the sum of the two standard errors over sets, at every IPC, to every network, and at or above k-means selection at
IPC 10.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

from dap.disk import write_whole
from photograph_accuracy import margin, values
from photograph_settings import REAL, SECOND, SETTINGS
from record import RESULTS, mean_and_error

RIVALS = {"unguided": "unguided", "random": "random real", "dap-paper": "`dap-paper`", "kmeans": "k-means, IPC 10"}
NETWORKS = {"convnet-3": "ConvNet-3", "convnet-4": "ConvNet-4", "resnetap-10": "ResNetAP-10", "resnet-18": "ResNet-18"}
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


def goals(name: str, rows: dict[str, Any], setting: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where (data, backbone, network, IPC), and the verdict beside each rival there."""
    backbones = ("", SECOND) if any(SECOND in key for key in rows) else ("",)
    for which, network, ipc in product(backbones, setting["networks"], setting["ipcs"]):
        last = {
            method: values(rows, f"worth | {network} | {method}{'' if method in REAL else which} | {ipc}", "last")
            for method in (*RIVALS, "dap", "former dap")
        }
        mine = last["dap"] or last["former dap"]
        note = " (the former preset)" if mine and not last["dap"] else ""
        if mine or not which:
            asked = [rival for rival in RIVALS if rival != "kmeans" or ipc == 10]
            found = {rival: verdict(mine, last[rival], enough=rival == "kmeans") for rival in asked}
            yield f"{NAMED[name]}{which}, {NETWORKS[network]}, IPC {ipc}{note}", found


def table() -> str:
    """Markdown: a line a place, then how many of each verdict."""
    lines = [
        "# Goals on photographs",
        "",
        "`dap` minus each rival, in points of the last accuracy (mean over the sets that both have), and in brackets"
        " the sum of the two standard errors over sets (three, unless said), which the difference has to exceed (for"
        " k-means, it is enough not to be below). Where one of the two has one set there is no error and no verdict."
        " From the rows in `photographs_*.json`, which say what was scaled. Script: `benchmarks/photograph_goals.py`.",
        "",
        "| | " + " | ".join(RIVALS.values()) + " |",
        "|---|" + "---|" * len(RIVALS),
    ]
    count: Counter[str] = Counter()
    for name in NAMED:
        about = json.loads((RESULTS / f"photographs_{name}.json").read_text())
        setting = {"networks": SETTINGS[name].networks, "ipcs": SETTINGS[name].ipcs}
        for where, found in goals(name, about["rows"], setting):
            lines.append(f"| {where} | " + " | ".join(found.get(rival, "") for rival in RIVALS) + " |")
            count.update(text.split(" ")[0].strip("*:") for text in found.values())
    words = {
        "holds": "hold",
        "level": "are level",
        "missed": "are missed",
        "one": "have one set",
        "not": "are not measured",
    }
    said = ", ".join(f"{count[word]} {text}" for word, text in words.items() if count[word])
    return "\n".join([*lines, "", f"Of {sum(count.values())}: {said}."]) + "\n"


if __name__ == "__main__":
    write_whole(RESULTS / "photograph_goals.md", table().encode())
    print(table())
