"""The distilled dataset on disk: one directory that loads without `dap`, resumes, and can be verified.

    out/  config.json          digest, resolved configuration, what the digest covers, folders (first)
          plan.json            {"chunks": [[[label, index, seed], ...], ...], "micro_batch": rows}
          data/<class>/00007.png        image 7 of a class; folders sort in label order
          chunks/00017.json    commit marker, written last: {"chunk", "units", "files": {path: sha256}, ...}
          manifest.jsonl       one line an image, derived from the markers, safe to delete
          README.md            dataset card; once edited it is the user's and stays

A chunk is done if and only if its marker exists and its files match it. Every file appears complete or not at
all; what a killed process leaves is named `.dap-*.tmp`, hidden from readers and swept on resume. The JSON files
end in a "check" over their own content. Processes lock nothing: equal chunks write equal bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dap.card import card, folder_names, is_edited
from dap.disk import AGAIN, TEMPORARY, changed, refusals, sweep, sync_folder, write_whole
from dap.errors import StoreError
from dap.plan import from_record, to_record
from dap.seal import earlier_config, fresh_config, no_set, read_config, read_sealed, sealed
from dap.types import Chunk, Unit

__all__ = ["Store", "folder_names"]


class Store:
    """A distilled dataset in one directory, from `Store.create` or `Store.open`.

    path         the directory                        config       what config.json holds
    chunks       the plan                             micro_batch  rows per forward pass
    class_names  by label                             folders      by label, the names in data/
    """

    def __init__(self, path: Path, config: dict[str, Any], chunks: Sequence[Chunk], micro_batch: int) -> None:
        self.path, self.config, self.chunks, self.micro_batch = path, config, tuple(chunks), micro_batch
        self.class_names: tuple[str, ...] = tuple(config["class_names"])
        self.folders: tuple[str, ...] = tuple(config["folders"])

    @classmethod
    def check(cls, path: str | Path, record: Mapping[str, Any]) -> tuple[Chunk, ...]:
        """The chunks planned there earlier, () for a new directory; writes nothing. `record` as in `create`.

        Raises StoreError for a file, someone else's directory, another configuration, damage.
        """
        path = Path(path)
        return cls.open(path).chunks if earlier_config(path, record) and (path / "plan.json").exists() else ()

    @classmethod
    def micro_batch_in(cls, path: str | Path) -> int | None:
        """Rows per forward pass of the plan in `path`, None where there is none. Raises StoreError for damage."""
        begun = (Path(path) / "config.json").exists() and (Path(path) / "plan.json").exists()
        return cls.open(path).micro_batch if begun else None

    @classmethod
    def create(cls, path: str | Path, record: Mapping[str, Any], chunks: Sequence[Chunk], micro_batch: int) -> Store:
        """Begin a dataset, or go on with one that the same settings began: the first config.json stays.

        record  "digest", "determines" (nested: what it covers), "config", "class_names", "versions", ...
        chunks  the plan; on resume the earlier chunks, then new ones: `plan_chunks(done=Store.check(...))`

        Raises StoreError when `path` is a file or not writable, holds files that are not ours, another
        configuration (names what differs) or another plan.
        """
        path = Path(path)
        config = earlier_config(path, record)
        earlier = cls.open(path) if config and (path / "plan.json").exists() else None
        if earlier and (earlier.micro_batch != micro_batch or earlier.chunks != tuple(chunks[: len(earlier.chunks)])):
            planned = f"{earlier.planned} images in micro-batches of {earlier.micro_batch}"
            raise StoreError(f"{path} holds another plan, {planned}: choose another --out, or the same --ipc or more")
        with refusals(path):
            path.mkdir(parents=True, exist_ok=True)
            sweep(path, path / "chunks", *(path / "data").glob("*"))
            if config is None:
                config = fresh_config(record)
                write_whole(path / "config.json", sealed(config, indent=2))
            if earlier is None or len(chunks) > len(earlier.chunks):
                write_whole(path / "plan.json", sealed({"chunks": to_record(chunks), "micro_batch": micro_batch}))
            run, ipc = config["config"].get("run", {}), record["config"].get("run", {}).get("ipc")
            if run.get("ipc") != ipc:  # after the plan: never claim images that are not even planned
                config["config"]["run"] = {**run, "ipc": ipc}
                write_whole(path / "config.json", sealed(config, indent=2))
        return cls(path, config, chunks, micro_batch)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """An existing dataset, finished or not. Raises StoreError when there is none, or it is damaged."""
        path = Path(path)
        config = read_config(path)
        if config is None:
            raise StoreError(no_set(path))
        if not (path / "plan.json").exists():
            raise StoreError(f"{path} has no plan.json: {AGAIN}")
        plan = read_sealed(path / "plan.json", f"delete it and {AGAIN}")
        chunks, micro_batch = from_record(plan.get("chunks")), plan.get("micro_batch")
        labels = len(config["class_names"])
        if type(micro_batch) is not int or any(u.label >= labels for c in chunks for u in c.units):
            raise StoreError(f"{path / 'plan.json'} does not fit config.json: delete it and {AGAIN}")
        return cls(path, config, chunks, micro_batch)

    def file_of(self, unit: Unit) -> str:
        """Where an image lies, relative to the dataset, with forward slashes: "data/cat/00007.png"."""
        return f"data/{self.folders[unit.label]}/{unit.index:05d}.png"

    def commit(self, chunk: Chunk, images: Tensor | NDArray[np.uint8], facts: Mapping[str, Any] | None = None) -> None:
        """Write a chunk's images, then its marker; until the marker is there, the chunk is not done.

        images  uint8 [units, channels, height, width]; 1 channel is written as grey, 3 as RGB
        facts   goes into the marker: "seconds", "notes", ...; no NaN

        Raises StoreError when the disk is full or refuses. Writing a chunk twice, also at once, does no harm.
        """
        array = np.asarray(images.detach().cpu() if isinstance(images, Tensor) else images)
        count = len(chunk.units)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[:2] not in ((count, 1), (count, 3)):
            raise ValueError(f"images are {array.dtype} {array.shape}, not uint8 [{count}, 1 or 3, h, w]")
        files = {self.file_of(unit): _png(image) for unit, image in zip(chunk.units, array, strict=True)}
        marker = {
            **(facts or {}),
            "chunk": chunk.id,
            "units": to_record([chunk])[0],
            "files": {name: sha256(data).hexdigest() for name, data in files.items()},
        }
        bytes_each = sum(map(len, files.values())) / len(files)
        with refusals(self.path, lambda: bytes_each * (self.planned - self.images)):
            for name, data in files.items():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path / name, data)
            for folder in sorted({(self.path / name).parent for name in files}):
                sync_folder(folder)  # a power cut must not keep the marker and lose the images
            self._marker(chunk).parent.mkdir(exist_ok=True)
            write_whole(self._marker(chunk), sealed(marker))

    def is_done(self, chunk: Chunk) -> bool:
        """Whether its marker exists and is of these very units, and its files match the marker."""
        return self._marker(chunk).exists() and not self._problems(chunk)

    def missing(self, chunks: Sequence[Chunk] | None = None) -> tuple[Chunk, ...]:
        """Those of `chunks` (all of the plan) that are not done; reads every file."""
        return tuple(c for c in (self.chunks if chunks is None else chunks) if not self.is_done(c))

    @property
    def planned(self) -> int:
        """Images in the plan."""
        return sum(len(chunk.units) for chunk in self.chunks)

    @property
    def images(self) -> int:
        """Images in chunks that have a marker; `verify` tells whether they are intact."""
        return sum(len(chunk.units) for chunk in self.chunks if self._marker(chunk).exists())

    def rows(self) -> list[dict[str, Any]]:
        """What manifest.jsonl holds, by label and index: path, label, class, index, seed, sha256, chunk."""
        rows = []
        for chunk in self.chunks:
            marker = read_sealed(self._marker(chunk), AGAIN) if self._marker(chunk).exists() else {}
            if marker.get("units") == to_record([chunk])[0]:
                for u in chunk.units:
                    name, path = self.class_names[u.label], self.file_of(u)
                    row = {"path": path, "label": u.label, "class": name, "index": u.index, "seed": u.seed}
                    rows.append({**row, "sha256": marker["files"].get(path), "chunk": chunk.id})
        return sorted(rows, key=lambda row: (row["label"], row["index"]))

    def finish(self) -> None:
        """Write manifest.jsonl and README.md from the markers, always alike; an edited README stays."""
        readme = self.path / "README.md"
        with refusals(self.path):
            write_whole(self.path / "manifest.jsonl", self._manifest())
            if not readme.exists() or not is_edited(readme.read_text(encoding="utf-8", errors="replace")):
                write_whole(readme, card(self.config, self.images, self.planned).encode())

    def verify(self) -> list[str]:
        """What is wrong, a line each; [] when every file is there and unchanged, and nothing else is.

        Only files of the plan are opened, never what a marker names. README.md is the user's to edit.
        """
        try:
            store = Store.open(self.path)
            undone = [chunk.id for chunk in store.chunks if not store._marker(chunk).exists()]
            begun = [chunk for chunk in store.chunks if store._marker(chunk).exists()]
            problems = [*(p for chunk in begun for p in store._problems(chunk)), *store._extra()]
            if undone:
                named = ", ".join(map(str, undone[:10])) + (", ..." if len(undone) > 10 else "")
                problems.append(f"{len(undone)} of {len(store.chunks)} chunks are not done ({named}): {AGAIN}")
            manifest = self.path / "manifest.jsonl"
            if not problems and manifest.exists() and manifest.read_bytes() != store._manifest():
                problems.append(f"manifest.jsonl does not match the markers: delete it and {AGAIN}")
        except StoreError as error:
            return [str(error)]
        except OSError as error:
            return [f"cannot read {error.filename or self.path}: {error.strerror or error}"]
        return problems

    def _marker(self, chunk: Chunk) -> Path:
        return self.path / "chunks" / f"{chunk.id:05d}.json"

    def _manifest(self) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in self.rows()).encode()

    def _problems(self, chunk: Chunk) -> list[str]:
        """What is wrong with a chunk whose marker exists."""
        try:
            marker = read_sealed(self._marker(chunk), AGAIN)
        except StoreError as error:
            return [str(error)]
        name, files = self._marker(chunk).name, marker.get("files")
        expected = {self.file_of(unit) for unit in chunk.units}
        if marker.get("units") != to_record([chunk])[0] or not isinstance(files, dict):
            return [f"chunks/{name} is the marker of another plan: {AGAIN}"]
        if strange := sorted(set(files) ^ expected):
            return [f"chunks/{name} and the plan disagree about the file {strange[0]!r}: {AGAIN}"]
        states = ((path, changed(self.path / path, files[path])) for path in sorted(expected))
        return [f"{path} {state}: {AGAIN}" for path, state in states if state]

    def _extra(self) -> Iterator[str]:
        """Files and folders in data/ and chunks/ that the plan does not know."""
        known = {self.file_of(unit) for chunk in self.chunks for unit in chunk.units}
        known |= {f"chunks/{self._marker(chunk).name}" for chunk in self.chunks} | {
            f"data/{name}" for name in self.folders
        }
        for top in ("data", "chunks"):
            for path in sorted((self.path / top).rglob("*")):
                name = path.relative_to(self.path).as_posix()
                if name not in known:
                    left_over = TEMPORARY.fullmatch(path.name)
                    yield f"{name} " + (f"is left over: {AGAIN}" if left_over else "does not belong here: move it away")


def _png(image: NDArray[np.uint8]) -> bytes:
    """[1 or 3, h, w] as PNG: no metadata and a fixed compression, so that equal pixels are equal bytes."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))).save(
        out, format="PNG", compress_level=6
    )
    return out.getvalue()
