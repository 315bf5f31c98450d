"""Small sets on disk for the tests of `evaluate`: plain folders and finished distilled datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dap.config import EvaluationConfig
from dap.evaluation import evaluate
from dap.plan import plan_chunks
from dap.store import Store

QUICK = EvaluationConfig(protocol="hard-tiny", repeats=2, epochs_scale=0.1)
NAMES = ("apple", "pear", "plum")


def picture(label: int, seed: int, size: int = 8, colour: bool = False) -> np.ndarray:
    """Class 0 lies, 1 stands, 2 is a checkerboard, under noise: shifts change nothing."""
    rng = np.random.default_rng([label, seed])
    across, down = np.indices((size, size)) % 2
    pattern = (across, down, across ^ down)[label][:, :, None]
    noise = rng.random((size, size, 3 if colour else 1))
    return np.repeat((255 * (0.5 * pattern + 0.5 * noise)).astype(np.uint8), 1 if colour else 3, axis=2)


def folder(path: Path, counts: dict[str, int], seed: int = 0, size: int = 8, colour: bool = False) -> Path:
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for i in range(count):
            image = picture(NAMES.index(name.split("_")[-1]), seed * 1000 + i, size, colour)
            Image.fromarray(image).save(path / name / f"{i:03d}.png")
    return path


def distilled(
    path: Path,
    source: Path,
    ipc: int = 2,
    seed: int = 0,
    names: tuple[str, ...] = NAMES,
    guidance: str = "dap",
    strength: float = 1.0,
    device: str = "cpu",
) -> Path:
    """A finished distilled dataset of real pictures, as `dap distill` would leave it."""
    chunks = plan_chunks(names, ipc, seed, chunk=100, whole_classes=True)
    run = {"seed": seed, "micro_batch": ipc * len(names)}
    chosen = {"name": "none" if guidance == "none" else f"dap.guidance:{guidance}", "strength": strength}
    settings = {
        "data": {"source": str(source), "split": None, "subset": None},
        "backbone": {"device": device},
        "guidance": {"preset": guidance, **chosen},
        "run": {**run, "ipc": ipc, "chunk": 50},
    }
    determines = {"data": {"images": f"{ipc}"}, "backbone": {"weights": "w"}, "guidance": chosen, "run": run}
    facts = {"digest": f"{seed:016x}", "determines": determines, "config": settings, "class_names": list(names)}
    facts |= {"real_images": {"counts": [30 + label for label in range(len(names))]}}
    store = Store.create(path, facts, chunks, micro_batch=4)
    for chunk in chunks:
        images = [picture(NAMES.index(names[u.label]), u.seed % 997).transpose(2, 0, 1)[:1] for u in chunk.units]
        store.commit(chunk, np.stack(images))
    store.finish()
    return path


def quick(sets: list[Any], test: Any, **options: Any) -> dict[str, Any]:
    config = options.pop("config", EvaluationConfig(protocol="hard-tiny", repeats=1, epochs_scale=0.1))
    return evaluate(sets, test, config=config, device="cpu", **options)
