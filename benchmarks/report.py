"""What measuring and reporting cost: time and peak memory by size of the set, the metric alone at ImageNet's size,
the report's bytes, and how soon a browser shows it.

    python benchmarks/report.py [--sizes 100 1000 50000] [--classes 1000]

sets      made of smooth random colours, 64 px, in a temporary directory; twice as many real images for 100 and 1,000,
          20 a class for 50,000; features are the pixels, so that no network's time is in the numbers
metric    random features of 512 numbers, 1,280 real and 50 synthetic images a class; making them is not timed
browser   headless Chromium without a GPU, the report of 1,000 images, median of five: first contentful paint, load,
          and the frames while the page is scrolled from top to bottom

Every command runs in a process of its own with one thread; memory is that process's peak, Python and torch included.
Wall times suffer when the machine has other work, CPU seconds hardly do: both are recorded.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import dap.store
from dap.config import MetricsConfig
from dap.metrics import Real, measure, score
from dap.plan import plan_chunks
from dap.reporting import report
from dap.store import Store
from record import RESULTS, Results

SIDE = 64
SHAPES = {100: (10, 20), 1000: (10, 200), 50_000: (1000, 20)}  # images: (classes, real images of a class)
SCROLL = """
const done = arguments[0], frames = []; let last = performance.now();
const high = document.documentElement.scrollHeight;
let y = 0;
function frame(now) {
  frames.push(now - last); last = now; y += 120; scrollTo({top: y, behavior: "instant"});
  if (y < high) requestAnimationFrame(frame); else done(frames.slice(1));
}
requestAnimationFrame(frame);
"""


def pictures(count: int, seed: int) -> np.ndarray[Any, Any]:
    """uint8 [count, side, side, 3]: eight by eight random colours, smoothed, under a little noise."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        out[i] = (np.asarray(coarse, np.int16) + rng.integers(-8, 9, (SIDE, SIDE, 3))).clip(0, 255)
    return out


def real_folder(path: Path, names: list[str], count: int) -> Path:
    """A folder of class folders."""
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i, image in enumerate(pictures(count, label)):
            Image.fromarray(image).save(path / name / f"{i:04d}.png", compress_level=1)
    return path


def distilled_set(path: Path, real: Path, names: list[str], ipc: int) -> Path:
    """A finished distilled dataset, its files not forced to the disk: nobody will miss them."""
    dap.store.write_whole = lambda file, data: file.write_bytes(data) and None
    chunks = plan_chunks(names, ipc, 0, chunk=50, whole_classes=False)
    config = {"data": {"source": str(real)}, "backbone": {"name": "none"}, "run": {"ipc": ipc, "seed": 0}}
    record = {"digest": "0" * 16, "determines": {}, "config": config, "class_names": names}
    store = Store.create(path, record, chunks, micro_batch=50)
    for chunk in chunks:
        images = pictures(len(chunk.units), 10**6 + chunk.id).transpose(0, 3, 1, 2)
        store.commit(chunk, images, {"seconds": 1.0, "device": "cpu"})
    store.finish()
    return path


def apart(*words: str) -> dict[str, Any]:
    """This script in a process of its own: {"seconds", "peak_mb", ...}."""
    done = subprocess.run([sys.executable, __file__, "--child", *words], capture_output=True, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def child(what: str, *words: str) -> dict[str, Any]:
    """One measurement."""
    torch.set_num_threads(1)
    if what == "metric":
        found = metric(int(words[0]))
    else:
        began = time.perf_counter()
        if what == "measure":
            measure([words[0]], words[1], config=MetricsConfig(features="pixels", points=int(words[2])))
            found = {}
        else:
            found = {"bytes": report([words[0]])["bytes"]}
        found["seconds"] = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {**found, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def metric(classes: int, real: int = 1280, synthetic: int = 50, numbers: int = 512) -> dict[str, Any]:
    """All numbers of `classes` classes of random features; the making of the features is not counted."""
    draw, seconds = torch.Generator().manual_seed(0), 0.0
    for _ in range(classes):
        t, s = (torch.randn(count, numbers, generator=draw) for count in (real, synthetic))
        began = time.perf_counter()
        score(s, Real.of(t))
        seconds += time.perf_counter() - began
    return {"seconds": seconds, "real": classes * real, "synthetic": classes * synthetic, "numbers": numbers}


def browser(path: Path, times: int = 5) -> dict[str, float] | None:
    """How soon the page is there, and how evenly it scrolls; None without a browser."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        return None
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = binary
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    page.set_script_timeout(120)
    rows: list[tuple[float, float]] = []
    try:
        page.set_window_size(1280, 900)
        for _ in range(times):
            page.get(path.as_uri())
            time.sleep(1.5)
            paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            load = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            rows.append(tuple(page.execute_script(f"return [{paint}, {load}]")))
        frames = page.execute_async_script(SCROLL)
    finally:
        page.quit()
    return {
        "first_paint_ms": statistics.median(row[0] for row in rows),
        "load_ms": statistics.median(row[1] for row in rows),
        "frames": len(frames),
        "frame_median_ms": statistics.median(frames),
        "frame_longest_ms": max(frames),
        "frames_over_50_ms": sum(frame > 50 for frame in frames),
    }


def run(sizes: list[int], classes: int) -> Iterator[tuple[str, Any]]:
    """(key, row) of every measurement."""
    if classes:
        yield f"metric, {classes} classes", apart("metric", str(classes))
    for size in sizes:
        count, real = SHAPES.get(size, (10, 20))
        names = [f"class {k:04d}" for k in range(count)]
        with tempfile.TemporaryDirectory() as room:
            source = real_folder(Path(room) / "real", names, real)
            made = distilled_set(Path(room) / "set", source, names, size // count)
            shape = {"classes": count, "real": count * real}
            if size <= 1000:
                yield f"measure, {size} images, no map", {**shape, **apart("measure", str(made), str(source), "0")}
            yield f"measure, {size} images", {**shape, **apart("measure", str(made), str(source), "5000")}
            yield f"report, {size} images", {**shape, **apart("report", str(made))}
            if size == 1000:
                yield "browser, 1000 images", browser(made / "report.html")


def table(results: Results) -> str:
    """The rows as Markdown."""
    rows = results.record["rows"]
    lines = ["# Measuring and reporting: time, memory, size", "", f"{results.record['machine']}, one thread,"]
    lines += [f"{results.record['date']}, `{results.record['script']}`; what is measured: see the script."]
    lines += [
        "The machine had other work at the time: CPU seconds are the number to read, wall seconds an upper bound.",
        "",
    ]
    lines += [
        "| what | real images | seconds | CPU seconds, start-up included | peak MB | file MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for key, row in rows.items():
        if row and "seconds" in row:
            size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
            times = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f}"
            lines.append(f"| {key} | {row.get('real', '')} | {times} | {row['peak_mb']:.0f} | {size} |")
    seen = rows.get("browser, 1000 images")
    if seen:
        lines += ["", "In headless Chromium without a GPU, 1,000 images: "]
        lines[-1] += f"first paint after {seen['first_paint_ms']:.0f} ms, loaded after {seen['load_ms']:.0f} ms; "
        lines[-1] += f"scrolling, {seen['frames']} frames, median {seen['frame_median_ms']:.0f} ms, longest "
        lines[-1] += f"{seen['frame_longest_ms']:.0f} ms, {seen['frames_over_50_ms']} above 50 ms."
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures what results/report.json lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 50_000])
    parser.add_argument("--classes", type=int, default=1000, help="of the metric alone, 0: leave it out")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    results = Results("report")
    for key, row in run(options.sizes, options.classes):
        results[key] = row
        print(key, row, flush=True)
        (RESULTS / "report.md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
