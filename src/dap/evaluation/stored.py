"""Soft labels computed once and stored, with what they are labels of: SRe2L's, after FKD (Shen and Xing 2022).

DIR/labels/<key>/labels.json               sealed: of which set, teacher, augmentation, batch and seed these are labels
DIR/labels/<key>/epoch-0000.safetensors    for the m rows of that epoch, in training order:
    rows int32 [m], boxes int16 [m, 4] (top, left, height, width), flips bool [m], partner int32 [m] (place in the
    batch), logits float16 [m, classes] of the mixed images; for its b batches: counts int32 [b],
    mix_boxes int16 [b, 4] (top, bottom, left, right), ratios float32 [b] (lambda, of the box as clipped)

An epoch is computed when a training first comes to it and read, memory-mapped, by all others, so an interrupted one
goes on by itself. What an epoch holds follows from the key and its number alone. A file that is damaged, or of another
key, is computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor

from dap.config import digest
from dap.disk import refusals, sweep, write_whole
from dap.errors import StoreError
from dap.evaluation.augment import Mixed, crop_boxes, cutmix_box, flips, mirror, mix, normalise, resized_crop
from dap.evaluation.batches import COMPANY, Batch, Labelled, rows_of
from dap.evaluation.protocol import Protocol
from dap.evaluation.schedule import Plan
from dap.evaluation.teachers import Teacher
from dap.seal import sealed

SEED = 0  # labels are stored once and shared by all repeats and networks, as in SRe2L
_FP16 = 65504.0
_MATTERS = ("crop", "flip", "cutmix", "normalise")  # of a protocol: another rate or length has the same labels
_BY_BATCH = ("counts", "mix_boxes", "ratios")


@dataclass(frozen=True)
class StoredLabels:
    """The stored labels of one set; called, it gives a training its batches.

    path    DIR/labels/<key>
    record  what they are labels of
    notes   what happened that a reader must know
    """

    path: Path
    record: Mapping[str, Any]
    teacher: Teacher
    protocol: Protocol
    plan: Plan
    classes: int
    notes: list[str] = field(default_factory=list)

    def __call__(
        self, train: Labelled, protocol: Protocol, plan: Plan, generator: Generator, *, pairs: bool, done: int = 0
    ) -> Iterator[Batch]:
        """Batches as they were stored, in the stored order: the training's own generator is not asked."""
        for epoch in range(done // plan.steps_per_epoch, plan.steps // plan.steps_per_epoch):
            stored = self._read(epoch)
            if stored is None:
                stored = self._store(epoch, train)
            yield from _replay(stored, train, protocol)

    def missing_bytes(self) -> int:
        """How much is still to be stored, roughly: whole epochs at 2 bytes a logit and what goes with them."""
        epochs = self.plan.epochs or 0
        there = sum(self._file(epoch).exists() for epoch in range(epochs))
        return (epochs - there) * (self.plan.images * (2 * self.classes + 17) + 1000)

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:04d}.safetensors"

    def _read(self, epoch: int) -> dict[str, Tensor] | None:
        """A stored epoch; None when it is not there, or not as it was written."""
        path = self._file(epoch)
        if not path.exists():
            return None
        try:
            with refusals(path), safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if file.metadata() == self._seal(epoch, found):
                    return found
        except (StoreError, SafetensorError):
            pass
        self.notes.append(f"stored labels of epoch {epoch} were damaged or of something else: computed again")
        return None

    def _store(self, epoch: int, train: Labelled) -> dict[str, Tensor]:
        computed = self._compute(epoch, train)
        with refusals(self.path, self.missing_bytes):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "labels.json").exists():
                write_whole(self.path / "labels.json", sealed(self.record, indent=2))
            sweep(self.path)
            write_whole(self._file(epoch), save(computed, self._seal(epoch, computed)))
        return computed

    @torch.no_grad()
    def _compute(self, epoch: int, train: Labelled) -> dict[str, Tensor]:
        """Draws one epoch and asks the teacher."""
        seed = blake2b(f"{SEED} {epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
        parts: list[dict[str, Tensor]] = []
        for rows in rows_of(self.plan, generator, pairs=True, done=self.plan.steps - self.plan.steps_per_epoch):
            part = _draw(rows, train.images.shape[-1], self.protocol, generator)
            mixed = _mixed(part, train, self.protocol)
            logits = self.teacher.network(mixed.images).clamp(-_FP16, _FP16).half().cpu()
            parts.append({**part, "logits": logits, "ratios": torch.tensor([mixed.ratio])})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _seal(self, epoch: int, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        total = sha256()
        for name in sorted(tensors):
            total.update(f"{name} {list(tensors[name].shape)} {tensors[name].dtype}".encode())
            total.update(tensors[name].contiguous().numpy().data)
        return {"key": self.path.name, "epoch": str(epoch), "sha256": total.hexdigest()}


def stored_labels(
    folder: Path, train: Labelled, teacher: Teacher, protocol: Protocol, plan: Plan, classes: int
) -> StoredLabels:
    """The labels of `train` below `folder`; nothing is computed or written before they are used."""
    record = {
        "set": _content(train),
        "images": len(train.labels),
        "classes": classes,
        "teacher": teacher.record,
        "teacher_digest": teacher.digest,
        "protocol": protocol.name,
        "augmentation": {field: getattr(protocol, field) for field in _MATTERS},
        "batch": plan.batch,
        "seed": SEED,
    }
    key = digest([record[name] for name in ("set", "classes", "teacher_digest", "augmentation", "batch", "seed")])
    notes = [COMPANY] if plan.leaves_one else []  # labels serve all networks, those with batch norm among them
    return StoredLabels(folder / key, record, teacher, protocol, plan, classes, notes)


def check_disk(stores: Sequence[StoredLabels]) -> None:
    """Raise StoreError when a disk is too small for what is still to be stored on it."""
    needed: dict[int, int] = {}
    for store in {store.path: store for store in stores}.values():
        there = next(parent for parent in store.path.parents if parent.exists())
        device = there.stat().st_dev
        needed[device] = needed.get(device, 0) + store.missing_bytes()
        free = shutil.disk_usage(there).free
        if needed[device] > free:
            raise StoreError(
                f"stored soft labels take {needed[device] / 1e9:.3g} GB, the disk of {there} has {free / 1e9:.3g} "
                "GB free: make room, or use --protocol soft-rded, which stores nothing"
            )


def _draw(rows: Tensor, size: int, protocol: Protocol, generator: Generator) -> dict[str, Tensor]:
    """What happens to one batch, in the dtypes of the file; nothing: the whole image, not mirrored, an empty box."""
    count, box = len(rows), (0, 0, 0, 0)
    boxes, mirrored, partner = (
        torch.tensor([[0, 0, size, size]] * count),
        torch.zeros(count, dtype=torch.bool),
        torch.arange(count),
    )
    if protocol.crop is not None:
        boxes = crop_boxes(count, size, protocol.crop, generator)
    if protocol.flip:
        mirrored = flips(count, generator)
    if protocol.cutmix:
        box, partner = cutmix_box(size, generator), torch.randperm(count, generator=generator)
    return {
        "rows": rows.int(),
        "boxes": boxes.short(),
        "flips": mirrored,
        "partner": partner.int(),
        "counts": torch.tensor([count], dtype=torch.int32),
        "mix_boxes": torch.tensor([box], dtype=torch.int16),
    }


def _mixed(part: Mapping[str, Tensor], train: Labelled, protocol: Protocol) -> Mixed:
    """The images of one batch as its tensors say: cropped, mirrored, normalised, mixed."""
    images = train.images[part["rows"].long().to(train.images.device)].float().div_(255)
    images = mirror(resized_crop(images, part["boxes"]), part["flips"])
    top, bottom, left, right = part["mix_boxes"][0].tolist()
    return mix(normalise(images, protocol), part["partner"].long(), (top, bottom, left, right))


def _replay(stored: Mapping[str, Tensor], train: Labelled, protocol: Protocol) -> Iterator[Batch]:
    start = 0
    for step, count in enumerate(stored["counts"].tolist()):
        rows, one = slice(start, start + count), slice(step, step + 1)
        part = {name: value[one if name in _BY_BATCH else rows] for name, value in stored.items()}
        mixed, start = _mixed(part, train, protocol), start + count
        labels = train.labels[part["rows"].long().to(train.labels.device)]
        yield Batch(mixed.images, labels, mixed.partner, mixed.ratio, part["logits"].to(train.images.device))


def _content(train: Labelled) -> str:
    """sha256 of images and labels, in their order."""
    total = sha256(str(list(train.images.shape)).encode())
    for tensor in (train.images, train.labels):
        total.update(tensor.cpu().contiguous().numpy().data)
    return total.hexdigest()
