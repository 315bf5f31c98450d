"""`Bank`: the real images' features on disk, so that the next IPC, strength or seed pays nothing for them.

    DIR/<key>/bank.json                   what the key stands for: weights, tap, timesteps, seed, rows, versions
    DIR/<key>/<class>-<step>.safetensors  features [n, F] of one class, with a hash of their bytes

<class> stands for all that determines a class's features besides: its images, its name, what the backbone calls it. So
a class is found again whatever other classes the dataset has; the pool of negatives, an entry too, is theirs together.
Other images are another class: guidance that couples takes at least four for each synthetic one, so beyond IPC 6 (24
for a small class) every IPC has real images of its own and pays once.

An entry appears whole or not at all, and equal entries are equal bytes: any number of processes may write at once, and
one may be killed at any time. An entry that is damaged, or not what its name says, is computed again and never used.
"""

from __future__ import annotations

import errno
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dap.disk import refusals, sweep, write_json, write_whole
from dap.errors import DapWarning, StoreError
from dap.fields import digest

Shapes = Mapping[tuple[int, int], tuple[int, int]]  # [n, F] of the entry of each (label, step)

ABANDONED = 3600.0  # seconds after which nobody writes on at a temporary file
HALF = 2  # bytes of a number


class Bank:
    """Features by (label, step) under one key.

    identity  all that determines them and is the same for every class, fit for JSON
    classes   of each label, all that determines them besides
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]) -> None:
        self.path = Path(path).expanduser() / digest(identity)
        self.identity = dict(identity)
        self.classes = tuple(digest(one) for one in classes)
        self._writes = False

    def prepare(self) -> None:
        """Makes the directory and says what it holds. Raises: StoreError where that is not allowed."""
        with refusals(self.path, option="--reference-cache"):
            self.path.mkdir(parents=True, exist_ok=True)
            sweep(self.path, idle=ABANDONED)
            if not (self.path / "bank.json").exists():
                write_json(self.path / "bank.json", self.identity)
        self._writes = True

    def get(self, label: int, step: int) -> Tensor | None:
        """The features as they were put, or None where there are none that can be trusted."""
        path = self.entry(label, step)
        try:
            with safe_open(path, framework="pt") as file:
                said, features = (file.metadata() or {}).get("hash"), file.get_tensor("features")
        except (OSError, SafetensorError):
            return None
        return features if said == self._hash(features, path) else None

    def put(self, label: int, step: int, features: Tensor) -> None:
        """Keeps features [n, F], once prepared: a dry run writes nothing.

        What the disk refuses ends no run: the features are at hand, so it is said once and no more is kept.
        """
        if not self._writes:
            return
        features, path = features.detach().cpu().contiguous(), self.entry(label, step)
        try:
            write_whole(path, save({"features": features}, {"hash": self._hash(features, path)}))
        except OSError as error:
            self._writes = False
            why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            warnings.warn(
                f"the reference cache {self.path} cannot be written ({why}): this run goes on without keeping more "
                "features, with the same images",
                DapWarning,
                stacklevel=2,
            )

    def missing_bytes(self, wanted: Shapes) -> int:
        """Bytes that there are still to write: of the wanted entries that are not there in their shape."""
        return sum(HALF * math.prod(shape) for key, shape in wanted.items() if not self.holds(key, shape))

    def holds(self, key: tuple[int, int], shape: tuple[int, int]) -> bool:
        """Whether the entry of a (label, step) is there in this shape, by its header."""
        return self._shape(*key) == shape

    def check_room(self, wanted: Shapes) -> None:
        """Raises StoreError when the disk has less room than that, before anything is computed."""
        from shutil import disk_usage

        needed = self.missing_bytes(wanted)
        parent = next(p for p in (self.path, *self.path.parents) if p.exists())
        space = disk_usage(parent)
        if needed and (space.total == 0 or not os.access(parent, os.W_OK | os.X_OK)):
            raise StoreError(
                f"cannot use {parent} (nothing can be written): allow it, or choose another --reference-cache"
            )
        free = space.free
        if needed > free:
            raise StoreError(
                f"the reference cache needs {needed / 1e9:.1f} GB below {parent}, where {free / 1e9:.1f} GB are free; "
                "use another --reference-cache, or none; or, at a cost that docs/guidance.md states, fewer real images "
                "(--set guidance.reference_herded=12, or reference_size=32 where classes are small) or a random "
                "projection (--set guidance.projection=4096: the gradient is rougher, by .04 to .07 of its cosine "
                "where half the numbers stay)"
            )

    def entry(self, label: int, step: int) -> Path:
        """The file of a class's features at a step of the chain."""
        return self.path / f"{self.classes[label]}-{step}.safetensors"

    def _shape(self, label: int, step: int) -> tuple[int, ...] | None:
        """Of an entry that is whole by its header, which is all that is read; None without one."""
        try:
            with safe_open(self.entry(label, step), framework="pt") as file:
                return tuple(file.get_slice("features").get_shape())
        except (OSError, SafetensorError):
            return None

    def _hash(self, features: Tensor, path: Path) -> str:
        """Over name, type and shape too: bytes under another name, or read as other numbers, are not the features."""
        text = f"{self.path.name}/{path.name}/{features.dtype}/{list(features.shape)}"
        state = blake2b(text.encode(), digest_size=16)
        state.update(features.view(torch.uint8).numpy().data)
        return state.hexdigest()
