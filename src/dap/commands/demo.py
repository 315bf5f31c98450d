"""`dap demo`: the embedded digits, distilled with and without guidance, judged, measured and reported on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from dap.commands.distill import run_one
from dap.commands.evaluate import run_evaluate
from dap.commands.measure import run_measure
from dap.config import Config, EvaluationConfig, MetricsConfig, load_config
from dap.data import Source, open_dataset
from dap.pictures import contact_sheet, save_png, stacked
from dap.reporting import report
from dap.terminal import Talk, counted

GUIDANCES = {"unguided": "none", "DAP": "dap"}
PROTOCOL, REPEATS, EPOCHS_SCALE = "hard-tiny", 3, 1.0
MAP_POINTS = 1000
SETTINGS: dict[str, Any] = {}  # further tables of every distillation; a test makes it shorter


def run_demo(out: Path, ipcs: tuple[int, ...], talk: Talk) -> dict[str, Any]:
    """Distils the digits at each IPC with DAP and unguided, evaluates with random real and full data, draws a sheet.

    returns  the evaluation's record, with "seconds" for the whole and the paths of "contact_sheet" and "report"
    """
    began = time.perf_counter()
    sets: list[Path] = []
    talk.say(ahead(ipcs))
    if line := crowded():
        talk.say(line)
    for ipc in ipcs:
        for name, guidance in GUIDANCES.items():
            config = load_config(
                None, data={"source": "digits:train"}, guidance={"name": guidance}, run={"ipc": ipc}, **SETTINGS
            )
            path = out / f"ipc-{ipc}" / name.lower()
            _, line = run_one(config, path, [], False, talk)
            talk.say(line)
            sets.append(path)
    settings = EvaluationConfig(protocol=PROTOCOL, repeats=REPEATS, epochs_scale=EPOCHS_SCALE)
    result = run_evaluate(sets, "digits:test", "digits:train", settings, ["random", "full"], "auto", talk)
    sheet = save_png(demo_sheet(out, max(ipcs)), out / "contact_sheet.png")
    main_first = sorted(sets, key=lambda path: (path.parent != out / f"ipc-{max(ipcs)}", path.name))
    run_measure(main_first, None, "digits:test", False, Config(metrics=MetricsConfig(points=MAP_POINTS)), talk)
    page = report(main_first, out / "report.html")["report"]
    paths = {"contact_sheet": str(sheet), "report": page}
    return {**result, "repeats": REPEATS, **paths, "seconds": round(time.perf_counter() - began, 1)}


def ahead(ipcs: tuple[int, ...]) -> str:
    """What the demo is going to do: its baselines are random for each IPC, and the full data."""
    sets = len(ipcs) * len(GUIDANCES)
    trainings = REPEATS * (sets + len(ipcs) + 1)
    sizes, how = " and ".join(map(str, ipcs)), " and ".join(GUIDANCES)
    return f"{counted(sets, 'set')} to distil ({how}, {sizes} per class), then {trainings} short trainings and a report"


def crowded() -> str:
    """What to type on a busy machine, where threads that wait for each other cost a small model many times its time."""
    try:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):  # Windows has no load
        return ""
    if torch.get_num_threads() == 1 or load < 0.5 * cores:
        return ""
    return f"note: the machine is busy (load {load:.1f} on {cores} cores); faster then: OMP_NUM_THREADS=1 dap demo"


def demo_sheet(out: Path, ipc: int, most: int = 10) -> Any:
    """Rows real, unguided and DAP; a column group per class with up to `most` images, five classes across."""
    count = min(ipc, most)
    real = open_dataset("digits:train").select(count, seed=0)
    rows = [("real", groups(real, count))]
    for name in GUIDANCES:
        rows.append((name, groups(open_dataset(str(out / f"ipc-{ipc}" / name.lower()), mode="L"), count)))
    titles, sheets = [f"digit {name}" for name in real.class_names], []
    for few in (slice(0, 5), slice(5, 10)):
        part = [(name, images[few]) for name, images in rows]
        sheets.append(contact_sheet(part, titles[few], scale=6, wrap=min(5, count)))
    return stacked(sheets)


def groups(source: Source, count: int) -> list[torch.Tensor]:
    """The first `count` images of each class."""
    return [source.images(label, range(count)) for label in range(len(source.class_names))]
