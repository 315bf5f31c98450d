"""Results as JSON-ready dicts, and as files that are complete or not there.

    {"protocol", "scaled", "settings", "classes", "teacher", "results": [row, ...], "across_sets": [...],
     "scores": [...], "without_augmentation": [row, ...], "hard_labels": [row, ...],
     "test": {"name", "images", "counts", "size", "digest", "part"}, "dataset",
     "measured", "kept", "cache", "versions", "machine", "files"}

A row, one for each set or baseline and network:

    set, source         the set's name, or the baseline's and the real data it was drawn from
    method, recipe      the guidance or baseline; equal recipes differ in images per class and seed only
    real_counts         images of each class of the real data that it was made or drawn from; null: unknown
    network, parameters, input_size, image_size, mode
    stored_size         short side in pixels of the images as they are stored (the test data's too)
    ipc, images, counts ipc null: the full data; counts by class
    repeats, seeds      one training seed a repeat
    last, best          {"mean", "sd", "values"}, fractions; sd null for one repeat
    evaluations         how often the test data were looked at in one run: "best" is the best of so many
    steps, epochs, batch, optimiser
    per_class           accuracy of each class after the last step, over all repeats
    confusion           rows are true classes, summed over repeats
    threads, seconds    CPU threads; mean wall time of one run
    digest, digests     of the training images; one a repeat
    cells, kept         the trainings' names, one a repeat, and how many of them were measured earlier
    published           what papers report for the same data set, network, images per class and protocol family
    notes               what a reader must know

"teacher" is null for hard labels, else {"name", "network", "digest", "accuracy", "chance", "best_order", ...}.
"across_sets" shows both spreads of distilled sets that differ in their generation seed only, "scores" the LRS and ARS
of each set (`dap.evaluation.ranking`), the two lists after it what was measured for them alone; "test" says "part":
"validation" where no test data were looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dap.config import digest
from dap.disk import refusals, write_json
from dap.evaluation.candidate import Candidate
from dap.evaluation.cells import Measured
from dap.evaluation.fit import Fit
from dap.evaluation.matrix import Entry
from dap.evaluation.networks import network_size
from dap.evaluation.protocols import Plan, Protocol
from dap.evaluation.published import find_published
from dap.evaluation.scores import Score, class_accuracies, pooled_sd, score
from dap.record import machine, versions


def row_of(one: Entry, measured: Sequence[Measured], dataset: str | None, notes: Sequence[str] = ()) -> dict[str, Any]:
    """One row of the result: what a set is worth to a network; repeat r was trained with seed r.

    dataset  the published data set that is judged on, None where published numbers are not comparable
    """
    candidate, fits = one.candidate, [m.fit for m in measured]
    side = network_size(one.network, candidate.size)
    told = dict.fromkeys(note for fit in fits for note in fit.notes)
    return {
        "set": candidate.name,
        "source": candidate.origin,
        "method": candidate.method,
        "recipe": candidate.recipe,
        "real_counts": None if candidate.real is None else list(candidate.real),
        "network": one.network,
        "parameters": fits[0].parameters,
        "input_size": side,
        "image_size": candidate.size,
        "stored_size": candidate.stored,
        "mode": candidate.mode,
        "ipc": candidate.ipc,
        "images": sum(candidate.counts),
        "counts": list(candidate.counts),
        **_outcome(one, fits),
        **_provenance(one, measured),
        "published": [p.as_record() for p in find_published(dataset, one.network, candidate.ipc, one.protocol.name)],
        "notes": [*_notes(candidate, side), *told, *_elsewhere(measured), *notes],
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


def write(path: Path, record: Mapping[str, Any]) -> None:
    """`record` as JSON under that name: whole, or not at all. Raises: StoreError."""
    with refusals(path):
        write_json(path, record)


def _outcome(one: Entry, fits: Sequence[Fit]) -> dict[str, Any]:
    """What the trainings gave, and how long they were."""
    plan, confusion = one.plan, torch.stack([fit.confusion for fit in fits]).sum(0)
    return {
        "repeats": len(fits),
        "seeds": list(range(len(fits))),
        "last": score([fit.last for fit in fits]).as_record(),
        "best": score([fit.best for fit in fits]).as_record(),
        "evaluations": fits[0].evaluations,
        "steps": plan.steps,
        "epochs": plan.epochs,
        "batch": plan.batch,
        "optimiser": _optimiser(one.protocol, plan),
        "per_class": class_accuracies(confusion),
        "confusion": confusion.tolist(),
        "threads": fits[0].threads,
        "seconds": sum(fit.seconds for fit in fits) / len(fits),
    }


def _provenance(one: Entry, measured: Sequence[Measured]) -> dict[str, Any]:
    """Which images and which cells."""
    digests = [m.content for m in measured]
    return {
        "digest": digests[0] if len(set(digests)) == 1 else digest(list(digests)),
        "digests": digests,
        "cells": [cell.name for cell in one.cells],
        "kept": sum(m.kept for m in measured),
    }


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
    if candidate.stored < candidate.size:
        notes.append(f"images of {candidate.stored} px are enlarged to {candidate.size} px before training (bicubic)")
    if input_size != candidate.size:
        verb = "enlarged" if input_size > candidate.size else "reduced"
        notes.append(f"images of {candidate.size} px are {verb} to {input_size} px for this network (bilinear)")
    return notes


def _elsewhere(measured: Sequence[Measured]) -> list[str]:
    """Runs kept from another machine: their seconds, and the last bits of their accuracies, are that machine's."""
    here = machine()["processor"], machine()["gpu"]
    others = [m.machine for m in measured if (m.machine.get("processor"), m.machine.get("gpu")) != here]
    if not others:
        return []
    where = others[0].get("gpu") or others[0].get("processor")
    return [f"{len(others)} of {len(measured)} runs were measured earlier on another machine ({where})"]
