"""`Bank`: the real images' features on disk, so that the next IPC, strength or seed pays nothing for them.

    DIR/<key>/bank.json                 what the key stands for: weights, tap, timesteps, images, seed, rows
    DIR/<key>/<label>-<step>.safetensors  features [n, F], with a hash of their bytes

An entry appears whole or not at all, and equal entries are equal bytes: any number of processes may write at once, and
one may be killed at any time. An entry that is damaged, or not what its name says, is computed again and never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dap.disk import refusals, write_json, write_whole
from dap.errors import StoreError
from dap.fields import digest


class Bank:
    """Features by (label, step) under one key. `identity` is everything that determines them, fit for JSON."""

    def __init__(self, directory: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(directory).expanduser() / digest(identity)
        self.identity = dict(identity)
        self._prepared = False

    def prepare(self) -> None:
        """Makes the directory and says what it holds. Raises: StoreError where that is not allowed."""
        with refusals(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "bank.json").exists():
                write_json(self.path / "bank.json", self.identity)
        self._prepared = True

    def get(self, label: int, step: int) -> Tensor | None:
        """The features as they were put, or None where there are none that can be trusted."""
        path = self._entry(label, step)
        try:
            with safe_open(path, framework="pt") as file:
                said, features = (file.metadata() or {}).get("hash"), file.get_tensor("features")
        except (OSError, SafetensorError):
            return None
        return features if said == self._hash(features, label, step) else None

    def put(self, label: int, step: int, features: Tensor) -> None:
        """Keeps features [n, F], once prepared: a dry run writes nothing. Raises: StoreError when the disk refuses."""
        if not self._prepared:
            return
        features = features.detach().cpu().contiguous()
        data = save({"features": features}, {"hash": self._hash(features, label, step)})
        with refusals(self.path, lambda: len(data)):
            write_whole(self._entry(label, step), data)

    def missing_bytes(self, entries: int, each: int) -> int:
        """Bytes that there are still to write when `entries` of `each` bytes are wanted."""
        there = sum(1 for _ in self.path.glob("*.safetensors")) if self.path.is_dir() else 0
        return max(0, entries - there) * each

    def check_room(self, entries: int, each: int) -> None:
        """Raises StoreError when the disk has less room than that, before anything is computed."""
        from shutil import disk_usage

        needed = self.missing_bytes(entries, each)
        parent = next(p for p in (self.path, *self.path.parents) if p.exists())
        free = disk_usage(parent).free
        if needed > free:
            raise StoreError(
                f"the reference cache needs {needed / 1e9:.1f} GB below {parent}, where {free / 1e9:.1f} GB are free; "
                "use fewer real images (--set guidance.reference_size=32), --set guidance.projection=4096, another "
                "--reference-cache, or none"
            )

    def _entry(self, label: int, step: int) -> Path:
        return self.path / f"{label}-{step}.safetensors"

    def _hash(self, features: Tensor, label: int, step: int) -> str:
        """Over the name too, so that a file under another's name is not taken for it."""
        state = blake2b(f"{self.path.name}/{label}/{step}/{list(features.shape)}".encode(), digest_size=16)
        state.update(features.view(torch.uint8).numpy().data)
        return state.hexdigest()
