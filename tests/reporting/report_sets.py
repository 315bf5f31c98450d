"""What evaluations and traces leave in a set, and names that try to be markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dap.pictures import grid, save_png
from dap.trace_files import trace_files

# what somebody might call a class, a file or a network to make a report run their words
EVIL = ('<img src=x onerror=alert(1)>"', "it's <script>alert(2)<", "ユリ & lily")
MARKUP = "</script><script>alert(3)</script>\"'><b>"


def evaluation(path: Path, name: str, ipc: int = 3, mean: float = 0.8, **more: Any) -> Path:
    """A file as `dap evaluate` writes it, with random and full-data baselines."""

    def row(who: str, source: str | None, count: int | None, value: float) -> dict[str, Any]:
        values = [value - 0.01, value, value + 0.01]
        return {
            "set": who,
            "source": source,
            "network": "convnet-3",
            "ipc": count,
            "repeats": 3,
            "last": {"mean": value, "sd": 0.01, "values": values},
            "best": {"mean": value + 0.02, "sd": 0.01, "values": values},
            "per_class": [value] * 3,
            "seconds": 2.5,
            "notes": [],
        }

    rows = [row(name, None, ipc, mean), row("random", "real", ipc, mean - 0.1), row("full", "real", None, 0.99)]
    whole = {"protocol": "hard-small", "scaled": False, "classes": list(EVIL), "results": rows, "across_sets": []}
    file = path / "evaluation" / "hard-small-0.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**whole, **more}))
    return file


def traced(path: Path, folder_name: str, class_name: str, index: int = 0) -> None:
    """A stored trace of three frames."""
    files = trace_files(folder_name, index)
    for kind in ("guided", "unguided"):
        save_png(grid(torch.randint(0, 255, (3, 3, 8, 8), dtype=torch.uint8), 3, gap=0), path / files[kind])
    steps = [
        {"step": 1, "t": 900, "guided": 3.0, "unguided": 3.5},
        {"step": 2, "t": 500, "guided": 2.0, "unguided": 3.0},
        {"step": 3, "t": 0, "guided": None, "unguided": None},
    ]
    record = {"class": class_name, "index": index, "count": 3, "tap": "block.1", "real_images": 9, "steps": steps}
    (path / files["record"]).write_text(json.dumps(record))
