"""Cells: trainings kept as they finish, so that a matrix of them goes on where it stopped and measures nothing twice.

    DIR/evaluation/cells/<digest>.json   of a distilled dataset
    CACHE/<digest>.json                  of plain folders and baselines
    CACHE/labels/                        stored soft labels of those (`dap.evaluation.stored`)

CACHE is what `--cache` names, else $DAP_CACHE, else `dap/evaluation` in the user's cache directory ($XDG_CACHE_HOME or
~/.cache): a baseline measured for one set serves all others. A cell is named by the digest of its identity: all that
the numbers depend on, the content of the images included. It appears complete or not at all; one that is damaged, or
whose identity is another, is measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from dap.config import EvaluationConfig, digest
from dap.disk import refusals, sweep, write_whole
from dap.errors import StoreError
from dap.evaluation.fit import Fit
from dap.evaluation.protocols import Plan, Protocol
from dap.record import machine, versions
from dap.seal import sealed, unsealed

FORMAT = 1  # to be raised whenever the same identity would give other numbers

_MATTERS = ("dap", "torch", "torchvision", "timm")  # versions
_NAMES_ONLY = ("name", "summary", "network", "evaluations")  # of a protocol; how often it evaluates is in the plan
# of a configuration: what protocol, plan, network, seed and digests say already. A setting added later matters.
_SAID_ELSEWHERE = (
    *("protocol", "networks", "repeats", "flip", "epochs_scale", "evaluations", "val_fraction"),
    *("teacher", "teacher_network", "teacher_classes"),
)


@dataclass(frozen=True)
class Measured:
    """What one training gave.

    content  digest of the training images
    machine  where it ran, as `dap.record.machine` says
    kept     whether it was measured earlier
    """

    fit: Fit
    content: str
    machine: Mapping[str, Any]
    kept: bool = False


@dataclass(frozen=True)
class Cell:
    """One training by its identity, and the folder it is kept in (None: nowhere)."""

    identity: Mapping[str, Any]
    folder: Path | None

    @property
    def name(self) -> str:
        """The digest of the identity."""
        return digest(self.identity)

    def read(self) -> Measured | None:
        """What was measured earlier, None when it was not, or when the file cannot be trusted."""
        if self.folder is None:
            return None
        try:
            record = unsealed((self.folder / f"{self.name}.json").read_bytes())
            if record["identity"] != self.identity:
                return None
            return Measured(_fit_of(record["fit"]), record["content"], record["machine"], kept=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            return None

    def write(self, measured: Measured) -> None:
        """Keeps it. Raises: StoreError when the disk is full or the folder gone."""
        if self.folder is None:
            return
        record = {
            "identity": self.identity,
            "fit": _fit_record(measured.fit),
            "content": measured.content,
            "machine": measured.machine,
            "versions": versions(),
        }
        path = self.folder / f"{self.name}.json"
        with refusals(path):
            write_whole(path, sealed(record, indent=2))


def identity_of(
    *,
    train: Mapping[str, Any],
    test: Mapping[str, Any],
    network: str,
    protocol: Protocol,
    plan: Plan,
    seed: int,
    config: EvaluationConfig,
    device: str,
    teacher: str | None,
) -> dict[str, Any]:
    """All that a training's numbers depend on, fit for JSON.

    `train` and `test` say which images, in what form; `teacher` is the digest of the one that gives the labels, which
    its path is not: another may lie there tomorrow.
    """
    rules = {key: value for key, value in asdict(protocol).items() if key not in _NAMES_ONLY}
    more = {key: value for key, value in asdict(config).items() if key not in _SAID_ELSEWHERE}
    known = versions()
    identity = {
        "format": FORMAT,
        "train": dict(train),
        "test": dict(test),
        "network": network,
        "protocol": rules,
        "plan": asdict(plan),
        "seed": seed,
        "teacher": teacher,
        "settings": more,
        "device": torch.device(device).type,
        "versions": {name: known.get(name) for name in _MATTERS},
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))  # as it would come back: lists for tuples
    return plain


def default_cache() -> Path | None:
    """Where cells go that no distilled dataset owns, if nobody says otherwise; None for a user without a home."""
    if named := os.environ.get("DAP_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "dap" / "evaluation"
    except RuntimeError:
        return None


def open_cache(asked: str | Path | None) -> Path | None:
    """The cache, made and writable. Raises: StoreError when the one asked for is not; the default one is then None."""
    folder = default_cache() if asked is None else Path(asked).expanduser()
    if folder is None:
        return None
    try:
        return prepare(folder)
    except StoreError:
        if asked is not None:
            raise
        return None


def prepare(folder: Path) -> Path:
    """`folder`, made, writable and swept: to be asked before hours of training. Raises: StoreError."""
    remedy = "allow it, or copy the set elsewhere (a cache: name another with --cache)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r} ({error.strerror}): {remedy}") from None
    if not os.access(folder, os.W_OK):
        raise StoreError(f"cannot write {str(folder)!r} (not permitted): {remedy}")
    sweep(folder)
    return folder


def measured_here(fit: Fit, content: str) -> Measured:
    """A training that has just ended on this machine."""
    return Measured(fit, content, machine())


def _fit_record(fit: Fit) -> dict[str, Any]:
    values = {field.name: getattr(fit, field.name) for field in fields(fit)}
    return {**values, "confusion": fit.confusion.tolist()}


def _fit_of(record: Mapping[str, Any]) -> Fit:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
    values["confusion"] = torch.tensor(record["confusion"], dtype=torch.int64)
    return Fit(**values)
