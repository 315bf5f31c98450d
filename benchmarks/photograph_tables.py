"""Tables of what `photographs.py` measured.

    python benchmarks/photograph_tables.py SETTING

results/photographs_SETTING.md and .csv: accuracies, paired differences, choices on the validation part, metrics, cost.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterator
from itertools import product
from statistics import median
from typing import Any

from dap.disk import write_whole
from photograph_accuracy import NAMES, accuracy, cell, methods, scaled, values
from photograph_settings import SECOND
from record import RESULTS, mean_and_error, places

METRICS = {
    "energy distance": ("representativeness", "energy_distance"),
    "mean distance": ("representativeness", "mean_distance"),
    "Vendi score": ("diversity", "vendi"),
    "coverage": ("coverage",),
    "near-copies": ("near_copies",),
}


def choices(about: dict[str, Any]) -> Iterator[str]:
    """What was chosen from, without test data: accuracies by IPC, and the share of real diversity at IPC 10."""
    rows, setting = about["rows"], about["setting"]
    names = dict.fromkeys(key.split(" | ")[1] for key in rows if key.startswith("choose | "))
    if not names:
        return
    ipcs = sorted(setting["choose_ipcs"])
    network = next(iter(setting["networks"]))
    yield f"## Chosen on the validation part (a tenth of the training split): {network}{scaled(about, network)}"
    yield ""
    seeds = sorted({key.rpartition(" | ")[2] for key in rows if key.startswith("choose | ")}, key=int)
    yield f"Mean ± standard error over generation seeds (how many of {', '.join(seeds)}). The backbone was"
    yield "trained on the whole split, with these images: compare generated sets here with each other only."
    yield ""
    others = [name for name in setting["networks"] if any(name in row.get("others", {}) for row in rows.values())]
    heads = [f"IPC {ipc}, last %" for ipc in ipcs] + [f"{name}, IPC 10" for name in others]
    yield "| candidate | " + " | ".join(heads) + " | Vendi score / real images', IPC 10 |"
    yield "|---|" + "--:|" * (len(heads) + 1)
    for name in names:
        found = [values(rows, f"choose | {name} | {ipc}", "last") for ipc in ipcs]
        start = f"choose | {name} | 10 | "
        also = [{k: row["others"] for k, row in rows.items() if k.startswith(start) and "others" in row}] * len(others)
        found += [{i: 100 * row[of] for i, row in enumerate(by.values())} for of, by in zip(others, also, strict=True)]
        cells = [f"{cell(each)} ({len(each)})" if each else "" for each in found]
        share = list(values(rows, f"choose | {name} | 10", "vendi_share").values())
        diverse = f"{sum(share) / len(share) / 100:.2f}" if share else ""
        yield f"| {NAMES.get(name, name)} | " + " | ".join(cells) + f" | {diverse} |"
    yield ""


def generator(about: dict[str, Any]) -> Iterator[str]:
    """What the backbone itself is worth: many of its images against as many real ones."""
    rows = {key: row for key, row in about["rows"].items() if key.startswith("generator | ")}
    if rows:
        yield from (f"## The backbone itself, {next(iter(about['setting']['networks']))}", "")
        yield from ("| training images a class | last % |", "|---|--:|")
        for key, row in rows.items():
            _, name, count = key.split(" | ")
            yield f"| {count} {NAMES.get(name, name)} | {100 * row['last']:.1f} |"
        yield ""


def unscaled(about: dict[str, Any]) -> Iterator[str]:
    """One image a class in all of the protocol's epochs, beside the same sets in a share of them."""
    rows, network = about["rows"], next(iter(about["setting"]["networks"]))
    first = f"unscaled | {network} | "
    whole = {name: values(rows, f"{first}{name} | 1", "last") for name in methods(rows, first)}
    if any(whole.values()):
        yield from (f"## {network}, IPC 1, all epochs of the protocol", "")
        yield from ("| method (sets) | last % (best) | the same sets, scaled |", "|---|--:|--:|")
        for name, found in whole.items():
            part = values(rows, f"worth | {network} | {name} | 1", "last")
            same = {seed: part[seed] for seed in found if seed in part}
            best = cell(values(rows, f"{first}{name} | 1", "best")).partition(" ")[0]
            if found:
                yield f"| {NAMES.get(name, name)} ({len(found)}) | {cell(found)} ({best}) | {cell(same)} |"
        yield ""


def metrics(about: dict[str, Any], start: str, ipc: int, second: str) -> Iterator[str]:
    """Means over seeds, at one IPC; last what as many random real images have, held out of the reference.

    second  "", or what stands behind the names of a second backbone's methods: its tap is another space
    """
    rows, space = about["rows"], "of pixels" if "pixels" in start else "at the backbone's tap"
    yield f"## Metrics {space}, IPC {ipc}{second}"
    yield ""
    yield "| method | " + " | ".join(METRICS) + " |"
    yield "|---|" + "--:|" * len(METRICS)
    for method in [name for name in methods(rows, f"{start} | ") if name.endswith(SECOND) == bool(second)]:
        found = [row for key, row in rows.items() if key.startswith(f"{start} | {method} | {ipc} | ")]
        if found:
            cells = [f"{mean_and_error([number_at(row, path) for row in found])[0]:.3g}" for path in METRICS.values()]
            yield f"| {NAMES.get(method, method)} | " + " | ".join(cells) + " |"
    real = [row["yardstick"] for key, row in rows.items() if key.startswith(f"{start} | dap{second} | {ipc} | ")]
    if real:
        cells = [f"{mean_and_error([number_at(row, path) for row in real])[0]:.3g}" for path in METRICS.values()]
        yield "| held-out real images | " + " | ".join(cells) + " |"
    yield ""


def costs(about: dict[str, Any]) -> Iterator[str]:
    """Seconds an image, and ratios pair by pair."""
    found = {key.partition(" | ")[2]: row for key, row in about["rows"].items() if key.startswith("cost | ")}
    if found:
        yield from ("## Cost: sampling IPC 10 of ten classes", "")
        yield "| what | seconds an image, unguided | guided | guided / unguided, pair by pair |"
        yield "|---|--:|--:|---|"
        for name, row in found.items():
            plain, guided = (median(side) / 100 for side in zip(*row["pairs"], strict=True))
            yield f"| {name} | {plain:.3f} | {guided:.3f} | {', '.join(f'{r:.2f}' for r in row['ratios'])} |"
        yield ""


def number_at(row: dict[str, Any], path: tuple[str, ...]) -> float:
    """The mean over classes of one metric in a set's record."""
    for step in path:
        row = row[step]
    return float(row["mean"])


def times(about: dict[str, Any]) -> Iterator[str]:
    """Hours a stage took; `choose` with the sets it makes."""
    stages: dict[str, float] = {}
    for key, row in about["rows"].items():
        spent = row.get("seconds", 0) + row.get("made_seconds", 0)
        stages[key.partition(" | ")[0]] = stages.get(key.partition(" | ")[0], 0) + spent
    if any(stages.values()):
        yield from ("## Time", "", "Hours of each stage, summed over the processes that shared it.", "")
        yield from ("| stage | hours |", "|---|--:|")
        yield from (f"| {stage} | {spent / 3600:.1f} |" for stage, spent in stages.items() if spent)
        yield ""


def table(about: dict[str, Any]) -> str:
    """Markdown."""
    setting, rows = about["setting"], about["rows"]
    judged = setting["test_images"] or "all"
    error = f" ({50 / judged**0.5:.1f} points of {judged:,} at most)" if setting["test_images"] else ""
    seen = setting.get("paper_real")
    paper = f" `dap-paper` sees {seen} real images a class (support points), not all." if seen else ""
    lines = [
        f"# Photographs, {about['name']}: {setting['size']} px",
        "",
        f"Measured on {places(about)}. Scripts: `benchmarks/photographs.py`, `photograph_tables.py`.",
        "",
    ]
    if any(key.startswith("worth | ") for key in rows):
        lines += [
            f"`hard-small`, {judged} test images, one training a set, {setting['seeds']} generation seeds: mean of the"
            " last accuracy in per cent ± standard error over sets (mean of the best in brackets); then `dap` minus the"
            " method, seed by seed, and the sum of their two standard errors. All trainings have training seed 0, and"
            f" all sets the same test images, whose own sampling error{error} is common to them. k-means at"
            f" IPC 1 and herding draw nothing: one set.{paper}",
            "",
        ]
    for network in setting["networks"]:
        if any(key.startswith(f"worth | {network} | ") for key in rows):
            lines += accuracy(about, network)
    lines += unscaled(about)
    lines += choices(about)
    lines += generator(about)
    for ipc, start, second in product(setting["ipcs"], ("metrics", "metrics of pixels"), ("", SECOND)):
        if ipc > 1 and any(key.startswith(f"{start} | dap{second} | {ipc} | ") for key in rows):
            lines += metrics(about, start, ipc, second)
    lines += costs(about)
    lines += times(about)
    return "\n".join(lines).rstrip() + "\n"


def share(about: dict[str, Any], network: str, method: str, ipc: str, _: str) -> float:
    """Of the protocol's epochs, that a row had."""
    setting = about["setting"]
    cut = setting.get("full_share", 1.0) if method == "full" else setting.get("shares", {}).get(ipc, 1.0)
    return round(float(setting["networks"][network] * cut), 6)


def spreadsheet(about: dict[str, Any]) -> str:
    """CSV: every training on the test data on a line of its own; share: of the protocol's epochs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", "method", "ipc", "seed", "share", "last", "best"])
    for key, row in about["rows"].items():
        kind, *which = key.split(" | ")
        if kind in ("worth", "unscaled"):
            writer.writerow([*which, 1.0 if kind == "unscaled" else share(about, *which), row["last"], row["best"]])
    return out.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting")
    given = parser.parse_args()
    path = RESULTS / f"photographs_{given.setting}.json"
    record = json.loads(path.read_text()) | {"name": given.setting}
    write_whole(path.with_suffix(".md"), table(record).encode())
    write_whole(path.with_suffix(".csv"), spreadsheet(record).encode())
    print(table(record))
