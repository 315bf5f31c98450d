"""`train_teacher`: a network on the full data, saved with all that a later reader must know about it.

T/teacher.safetensors, T/teacher.json   see weights.py; the record comes last: without it there is no teacher
T/training/                             config.json: what is trained on what; state.pt: to go on from; gone at the end
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dap.backbones import pick_device
from dap.data import Source
from dap.disk import refusals, sweep, sync_folder, write_whole
from dap.errors import ConfigError, DataError, StoreError
from dap.evaluation.batches import Labelled, hard_batches
from dap.evaluation.networks import build_network, count_parameters, network_name
from dap.evaluation.protocol import Protocol
from dap.evaluation.sets import load, load_test
from dap.evaluation.teachers.weights import RECORD, WEIGHTS
from dap.evaluation.training import Training, check_computing, seeded, training_threads
from dap.record import versions
from dap.seal import differences, found_in, read_sealed, sealed

SAVE_SECONDS = 60.0


def train_teacher(
    data: Source,
    out: str | Path,
    *,
    network: str,
    protocol: Protocol,
    test: Source | None = None,
    seed: int = 0,
    scale: float = 1.0,
    device: str = "auto",
    bf16: bool = False,
    compiled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Trains `network` on all of `data` by a hard-label protocol and writes the directory `out`; gives its record.

    test      also judged on these, once, at the end; nothing is chosen on them
    scale     multiplies the protocol's epochs or steps
    progress  called with (steps done, steps) after every step

    The same call goes on where it was stopped, with the weights of a run that never was; a finished one is left.
    Raises: ConfigError for a protocol with soft labels; StoreError when `out` holds another teacher or something
    else; DataError for images of mixed size and for test data of other classes.
    """
    out, where, network = Path(out).expanduser(), torch.device(pick_device(device)), network_name(network)
    if protocol.labels != "hard":
        raise ConfigError(f"a teacher learns from hard labels, {protocol.name!r} has none; use --protocol hard-small")
    check_computing(where, bf16=bf16, compiled=compiled)
    sets, classes = _load(data, test, protocol), len(data.class_names)
    asked = {
        "network": network,
        "size": sets[0].images.shape[-1],
        "protocol": {"name": protocol.name, "digest": protocol.digest, "scale": scale},
        **_of_data(data, test),
        "seed": seed,
        "computing": {"bf16": bf16, "compiled": compiled},
    }
    with refusals(out):
        if (finished := _claim(out, asked)) is not None:
            return finished
    plan = protocol.plan(classes=classes, images=sum(data.counts), ipc=None, scale=scale, network=network)
    make = partial(build_network, network, classes, size=sets[0].images.shape[-1])
    with seeded(seed, where):
        training = Training(make, protocol, plan, seed, where, bf16=bf16, compiled=compiled)
        judged = _train(training, [part.to(where) for part in sets], classes, out / "training", progress)
    accuracy = {"train": judged[0], "test": judged[1] if test else None}
    with refusals(out):
        return _finish(out, training, {**asked, "accuracy": accuracy})


def _of_data(data: Source, test: Source | None) -> dict[str, Any]:
    used = {part.name: {"digest": part.digest, "counts": list(part.counts)} for part in (data, test) if part}
    return {"class_names": list(data.class_names), "data": used}


def _load(data: Source, test: Source | None, protocol: Protocol) -> list[Labelled]:
    """Training images, and the test images at their size, if there are any."""
    train = load(data, range(len(data.class_names)), size=protocol.size, mode="RGB")
    if test is None:
        return [train]
    if others := set(test.class_names) ^ set(data.class_names):
        raise DataError(f"{data.name!r} and the test data {test.name!r} differ in classes, e.g. {min(others)!r}")
    held_out = test.restrict(data.class_names)
    return [train, load_test(held_out, protocol, size=train.images.shape[-1], mode="RGB")]


def _train(
    training: Training, sets: list[Labelled], classes: int, work: Path, progress: Callable[[int, int], None] | None
) -> list[float]:
    """All steps that are still to be done, saved every now and then between epochs; then the accuracy on each set."""
    state, plan = work / "state.pt", training.plan
    if state.exists():
        try:
            training.restore(torch.load(state, map_location="cpu", weights_only=True))
        except Exception:
            raise StoreError(f"{state} is damaged; delete it to train from the start") from None
    saved = time.monotonic()
    with training_threads(training.network, sets[0], plan):
        for step in training.steps(sets[0], hard_batches):
            if (step + 1) % plan.steps_per_epoch == 0 and time.monotonic() - saved >= SAVE_SECONDS:
                saved, stream = time.monotonic(), io.BytesIO()
                torch.save(training.state(), stream)
                with refusals(work):
                    write_whole(state, stream.getvalue())
            if progress is not None:
                progress(step + 1, plan.steps)
        confusions = [training.judge(part, classes) for part in sets]
    return [confusion.trace().item() / int(confusion.sum()) for confusion in confusions]


def _claim(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a teacher that is finished; else `out` is made ready for exactly this one."""
    work = out / "training"
    for path in (out / RECORD, work / "config.json"):
        if path.exists():
            there = read_sealed(path, "delete it to train anew")
            if what := differences({key: there.get(key) for key in asked}, json.loads(json.dumps(asked))):
                raise StoreError(f"{out} holds another teacher ({what}): choose another --out, or the same settings")
            sweep(work)
            return there if path.name == RECORD else None
    if out.exists() and (not out.is_dir() or any(p.name != "training" for p in out.iterdir())):
        raise StoreError(f"{out} exists and is no teacher ({found_in(out)}): choose a new or empty --out")
    work.mkdir(parents=True, exist_ok=True)
    write_whole(work / "config.json", sealed(asked, indent=2))
    return None


def _finish(out: Path, training: Training, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes weights, then the record, which makes them a teacher."""
    weights = save({key: value.cpu().contiguous() for key, value in training.network.state_dict().items()})
    facts = {
        **facts,
        "normalise": training.protocol.normalise,
        "parameters": count_parameters(training.network),
        "steps": training.plan.steps,
        "notes": list(training.notes),
        "versions": versions(),
        "weights": sha256(weights).hexdigest(),
    }
    record: dict[str, Any] = json.loads(json.dumps(facts))
    write_whole(out / WEIGHTS, weights)
    write_whole(out / RECORD, sealed(record, indent=2))
    sync_folder(out)
    shutil.rmtree(out / "training")
    return record
