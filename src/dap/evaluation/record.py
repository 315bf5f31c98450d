"""Results as JSON-ready dicts, and as files that are complete or not there.

    {"protocol", "scaled", "settings", "classes", "results": [row, ...], "across_sets": [...],
     "test": {"name", "images", "counts", "size", "digest"}, "versions", "machine", "files",
     "teacher": null, or {"name", "network", "digest", "accuracy", "chance", "best_order", ...}}

A row, one for each set or baseline and network:

    set, source         the set's name, or the baseline's and the real data it was drawn from
    network, parameters, input_size, image_size, mode
    ipc, images, counts ipc null: the full data; counts by class
    repeats, seeds      one training seed a repeat
    last, best          {"mean", "sd", "values"}, fractions; sd null for one repeat
    evaluations, steps, epochs, batch, optimiser
    per_class           accuracy of each class after the last step, over all repeats
    confusion           rows are true classes, summed over repeats
    threads, seconds    CPU threads; mean wall time of one run
    digest, digests     of the training images; one a repeat
    notes               what a reader must know

"across_sets" shows both spreads of distilled sets that differ in their generation seed only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dap.config import digest
from dap.disk import refusals, write_json
from dap.errors import StoreError
from dap.evaluation.fit import Fit
from dap.evaluation.networks import network_size
from dap.evaluation.protocols import Plan, Protocol
from dap.evaluation.scores import Score, class_accuracies, pooled_sd, score
from dap.evaluation.sets import Candidate
from dap.record import machine, versions


def row_of(
    candidate: Candidate,
    network: str,
    protocol: Protocol,
    plan: Plan,
    fits: Sequence[Fit],
    digests: Sequence[str],
) -> dict[str, Any]:
    """One row of the result: what `candidate` is worth to `network`; repeat r was trained with seed r."""
    confusion = torch.stack([fit.confusion for fit in fits]).sum(0)
    side = network_size(network, candidate.size)
    return {
        "set": candidate.name,
        "source": candidate.origin,
        "network": network,
        "parameters": fits[0].parameters,
        "input_size": side,
        "image_size": candidate.size,
        "mode": candidate.mode,
        "ipc": candidate.ipc,
        "images": sum(candidate.counts),
        "counts": list(candidate.counts),
        "repeats": len(fits),
        "seeds": list(range(len(fits))),
        "last": score([fit.last for fit in fits]).as_record(),
        "best": score([fit.best for fit in fits]).as_record(),
        "evaluations": fits[0].evaluations,
        "steps": plan.steps,
        "epochs": plan.epochs,
        "batch": plan.batch,
        "optimiser": _optimiser(protocol, plan),
        "per_class": class_accuracies(confusion),
        "confusion": confusion.tolist(),
        "threads": fits[0].threads,
        "seconds": sum(fit.seconds for fit in fits) / len(fits),
        "digest": digests[0] if len(set(digests)) == 1 else digest(list(digests)),
        "digests": list(digests),
        "notes": [*_notes(candidate, side), *dict.fromkeys(note for fit in fits for note in fit.notes)],
    }


def across_sets(candidates: Sequence[Candidate], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Both spreads, between sets and between training seeds, of sets that only the generation seed tells apart.

    `candidates[i]` is the set of `rows[i]`.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for candidate, row in zip(candidates, rows, strict=True):
        if candidate.family is not None:
            groups.setdefault((candidate.family, row["network"]), []).append(row)
    out = []
    for (_, network), members in groups.items():
        if len({row["digest"] for row in members}) > 1:
            lasts = [Score(row["last"]["mean"], row["last"]["sd"], ()) for row in members]
            means = score([last.mean for last in lasts])
            out.append(
                {
                    "sets": [row["set"] for row in members],
                    "network": network,
                    "ipc": members[0]["ipc"],
                    "mean": means.mean,
                    "sd_sets": means.sd,
                    "sd_repeats": pooled_sd(lasts),
                }
            )
    return out


def settings(protocol: Protocol, config: Any, networks: Sequence[str]) -> dict[str, Any]:
    """What was asked for and every field of the protocol, fit for JSON."""
    asked = {**asdict(config), "networks": list(networks)}
    described = json.loads(json.dumps(asdict(protocol)))
    return {"evaluation": asked, "protocol": described, "protocol_digest": protocol.digest}


def surroundings(device: str) -> dict[str, Any]:
    """Versions and machine, for a record that somebody compares with another."""
    return {"versions": versions(), "machine": {**machine(), "device": device}}


def prepare(directory: Path) -> Path:
    """DIR/evaluation, made and writable: to be asked before hours of training. Raises: StoreError."""
    folder = directory / "evaluation"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {str(folder)!r} ({error.strerror}): allow it, or copy the set elsewhere"
        ) from None
    if not os.access(folder, os.W_OK):
        raise StoreError(f"cannot write {str(folder)!r} (not permitted): allow it, or copy the set elsewhere")
    return folder


def write(path: Path, record: Mapping[str, Any]) -> None:
    """`record` as JSON under that name: whole, or not at all. Raises: StoreError."""
    with refusals(path):
        write_json(path, record)


def _optimiser(protocol: Protocol, plan: Plan) -> dict[str, Any]:
    return {
        "name": protocol.optimiser,
        "rate": plan.rate,
        "momentum": protocol.momentum,
        "weight_decay": plan.weight_decay,
        "schedule": plan.schedule,
    }


def _notes(candidate: Candidate, input_size: int) -> list[str]:
    notes = []
    least, most = min(candidate.counts), max(candidate.counts)
    if least != most and candidate.ipc is not None:
        notes.append(f"classes have {least} to {most} images; {least} is taken as images per class")
    if input_size != candidate.size:
        verb = "enlarged" if input_size > candidate.size else "reduced"
        notes.append(f"images of {candidate.size} px are {verb} to {input_size} px for this network (bilinear)")
    return notes
