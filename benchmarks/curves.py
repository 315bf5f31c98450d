"""The pictures of docs/guidance.md, drawn from what the other benchmarks measured.

    python benchmarks/curves.py

docs/guidance_cosine.png    results/reference.json: how near the gradient comes to its mean, against real rows
docs/guidance_accuracy.png  results/guidance_tiny.json: accuracy against IPC
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dap.disk import write_whole
from dap.reporting.drawing import COLOURS, INK, MARKERS, drawn, sheet
from record import RESULTS, mean_and_error

DOCS = Path(__file__).parent.parent / "docs"
KINDS = {
    "support points, balanced noise": "support points, balanced noise",
    "random, balanced noise": "random images, balanced noise",
    "support points, independent noise": "support points, independent noise",
    "random, independent noise": "random images, independent noise",
}
LINES = {
    "dap": "dap",
    "k-means, features": "k-means-nearest real",
    "random real": "random real",
    "unguided": "unguided",
    "dap-paper, gamma 0.02": "dap-paper, gamma 0.02",
    "dap-paper, gamma 0.2": "dap-paper, gamma 0.2",
}


def look(k: int) -> dict[str, Any]:
    """Colour, mark and dashes: lines differ in print too."""
    return {"color": COLOURS[k], "marker": MARKERS[k], "linestyle": ("-", "--", "-.", ":")[k % 4], "markersize": 4}


def cosines() -> bytes:
    """1 - cosine (logarithmic) against the number of real rows, a panel a level."""
    record = json.loads((RESULTS / "reference.json").read_text())
    levels = record["levels"]
    with sheet(9, 3.4) as figure:
        axes = figure.subplots(1, len(levels), sharey=True)
    for axis, level in zip(axes, levels, strict=True):
        for k, (kind, name) in enumerate(KINDS.items()):
            start = f"images | {kind} | "
            found = {int(key[len(start) :]): row for key, row in record["rows"].items() if key.startswith(start)}
            axis.plot(list(found), [1 - row[str(level)][0] for row in found.values()], label=name, **look(k))
        axis.axhline(0.01, color=INK, linewidth=0.8)
        axis.set(
            xscale="log", yscale="log", title=f"reverse step {level} of 50", xticks=[8, 32, 96], xlabel="real rows"
        )
        axis.set_xticks([], minor=True)
        axis.set_xticklabels(["8", "32", "96"])
    axes[0].set_ylabel("1 − cosine with the mean")
    axes[0].text(8, 0.0085, "cosine .99", va="top", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return drawn(figure, "cosine", "", "", "").png


def accuracies() -> bytes:
    """Accuracy in per cent against IPC, one standard error up and down."""
    record = json.loads((RESULTS / "guidance_tiny.json").read_text())
    ipcs = record["parts"]["tiny"]["ipcs"]
    with sheet(6.4, 4.2) as figure:
        axis = figure.subplots()
    for k, (method, name) in enumerate(LINES.items()):
        found = []
        for ipc in ipcs:
            start = f"tiny | {method} | {ipc} | "
            rows = [100 * sum(v) / len(v) for key, v in record["rows"].items() if key.startswith(start)]
            found.append(mean_and_error(rows))
        errors = [error or 0.0 for _, error in found]
        axis.errorbar(ipcs, [mean for mean, _ in found], errors, label=name, capsize=2, **look(k))
    axis.set(xscale="log", xlabel="images per class", ylabel="accuracy, %", xticks=ipcs)
    axis.set_xticks([], minor=True)
    axis.set_xticklabels([str(ipc) for ipc in ipcs])
    axis.legend(frameon=False, loc="lower right")
    return drawn(figure, "accuracy", "", "", "").png


if __name__ == "__main__":
    write_whole(DOCS / "guidance_cosine.png", cosines())
    write_whole(DOCS / "guidance_accuracy.png", accuracies())
