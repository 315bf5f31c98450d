"""Folders of class folders with simple pictures, and distilled datasets made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dap.plan import plan_chunks
from dap.store import Store

NAMES = ("apple", "pear")


def picture(label: int, seed: int, size: int = 8) -> np.ndarray[Any, Any]:
    """RGB [size, size, 3]: a colour of the class under noise."""
    rng = np.random.default_rng([label, seed])
    colour = np.array([(200, 40, 40), (40, 180, 60), (50, 60, 220)][label % 3])
    return (0.6 * colour + 0.4 * rng.integers(0, 256, (size, size, 3))).astype(np.uint8)


def folder(path: Path, count: int = 9, names: Sequence[str] = NAMES, seed: int = 0, size: int = 8) -> Path:
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(label, seed * 1000 + i, size)).save(path / name / f"{i:03d}.png")
    return path


def distilled(
    path: Path, source: Path | str, ipc: int = 3, names: Sequence[str] = NAMES, seed: int = 0, **facts: Any
) -> Path:
    """A finished distilled dataset, as `dap distill` would leave it; `facts` go into every chunk's marker."""
    chunks = plan_chunks(list(names), ipc, seed, chunk=100, whole_classes=True)
    settings = {
        "data": {"source": str(source), "split": None, "subset": None},
        "backbone": {"name": "nowhere", "cfg_scale": 1.0},
        "sampling": {"scheduler": "ddpm", "steps": 3, "eta": 0.0},
        "guidance": {"preset": "dap", "name": "dap.guidance.representativeness:Representativeness", "strength": 0.3},
        "run": {"ipc": ipc, "seed": seed, "chunk": 100, "micro_batch": 4},
    }
    record = {"digest": f"{seed:016x}", "determines": {"seed": seed}, "config": settings, "class_names": list(names)}
    record["real_images"] = {"counts": [9] * len(names), "skipped": []}
    store = Store.create(path, record, chunks, micro_batch=4)
    for chunk in chunks:
        images = [picture(u.label, 50 + u.seed % 997).transpose(2, 0, 1) for u in chunk.units]
        store.commit(chunk, np.stack(images), {"seconds": 1.5, "device": "cpu", **facts})
    store.finish()
    return path
