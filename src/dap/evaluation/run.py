"""`evaluate`: every set and baseline, with every network, as often as asked; one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dap.backbones import pick_device
from dap.config import EvaluationConfig, digest
from dap.data import Source, open_dataset, split_validation
from dap.evaluation import record
from dap.evaluation.asked import asked
from dap.evaluation.candidate import Candidate
from dap.evaluation.cells import Measured, open_cache, prepare
from dap.evaluation.matrix import (
    Ahead,
    Entry,
    Ground,
    Progress,
    Worker,
    entry,
    measure,
    open_ground,
    with_hard_labels,
    without_augmentation,
)
from dap.evaluation.networks import check_networks
from dap.evaluation.protocols import PROTOCOLS, Protocol
from dap.evaluation.published import dataset_of
from dap.evaluation.ranking import NEEDED, needed_protocols, rank
from dap.evaluation.sets import open_baseline, open_candidate, open_real, stored_side

_SEEN = "judged on the real images that it was distilled from, not on test data"
_MAYBE_SEEN = "judged on a part of the training data, which the set may have been distilled from"
_MAYBE_TAUGHT = "judged on a part of the training data, which the teacher may have been trained on"
_TEACHER = "torchvision:resnet18"  # of the published tables with soft labels


def evaluate(
    sets: Sequence[Source | str | Path],
    test: Source | str | Path | None = None,
    *,
    real: Source | str | Path | None = None,
    config: EvaluationConfig | None = None,
    baselines: Sequence[str] = (),
    scores: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    on_plan: Callable[[Ahead], None] | None = None,
    on_kept: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """What training sets are worth to networks: trained on them, judged on real test data.

    sets       distilled datasets, other folders of class folders, or Sources; their classes are matched with
               the test data's by name, and the test images brought to their size
    test       real test data: a Source or a spec such as "digits:test"; not looked at, and not needed, where
               `config.val_fraction` asks to judge on a validation part of `real`
    real       the real training data, for baselines; None: what the distilled set records
    baselines  as many real images per class, a new draw each repeat where chance decides: "random", "herding",
               "kmeans", "kcenter"; and "full", all of them
    scores     measure all that LRS and ARS need: the baselines random and full, runs without augmentation and, where
               labels are soft, runs with hard ones
    cache      the folder that keeps trainings and stored labels of plain folders and baselines; None:
               `dap.evaluation.cells`
    progress   called with (training steps done, steps to do in this call, what is being trained)
    on_plan    called once with what is about to be trained, when all is checked
    on_kept    called after each training that a later call will find

    Accuracies are fractions. The headline is "last", after the last step; "best" is the largest of all
    evaluations on the test data and never to be quoted alone. Repeat r trains with seed r. Each training is kept as
    it ends: after an interruption the same call goes on, and nothing is measured twice. The result of each distilled
    dataset (and of its baselines) is also written to DIR/evaluation/<protocol>-<digest>.json; those paths are in
    "files".

    Raises, all before the first training: ConfigError for unknown names, DataError for sets or a teacher that do not
    fit the test data, StoreError for a dataset that is damaged or cannot be written to, or a disk too small for stored
    labels. The form of the result: `dap.evaluation.record`.
    """
    config = config or EvaluationConfig()
    protocol, networks = asked(config, sets, test, real, baselines)
    device, store = pick_device(Worker.here().device(device)), open_cache(cache)
    test, real = _judges(test, real, config)
    candidates = _open_sets(sets, test, protocol)
    names = dict.fromkeys([*baselines, *(NEEDED if scores else ())])
    candidates += _open_baselines(candidates, list(names), real, test)
    for size in {candidate.size for candidate in candidates}:
        check_networks(networks, len(test.class_names), size)
    ground = open_ground(test, candidates, protocol, config, device, store)
    jobs = _jobs(candidates, protocol, baselines, scores)
    entries = [entry(candidate, network, how, ground) for candidate, how in jobs for network in networks]
    measured = measure(entries, ground, progress, on_plan, on_kept)
    rows = _rows(entries, measured, ground, protocol)
    result = _result(entries, rows, measured, ground, protocol)
    result |= {"cache": None if store is None else str(store), **record.surroundings(device)}
    return {**result, "files": _write(entries, rows, result, _parts(protocol))}


def _jobs(
    candidates: Sequence[Candidate], protocol: Protocol, baselines: Sequence[str], scores: bool
) -> list[tuple[Candidate, Protocol]]:
    """What is measured under `protocol`, then what the scores need besides."""
    needed = [(c, how) for c in candidates for how in needed_protocols(c, protocol)]
    asked = [c for c in candidates if c.origin is None or c.name in baselines or (scores and (c, protocol) in needed)]
    return [(c, protocol) for c in asked] + [(c, how) for c, how in needed if scores and how != protocol]


def _parts(protocol: Protocol) -> dict[Protocol, str]:
    """In which part of the result rows under each protocol stand."""
    plain, hard = without_augmentation(protocol), with_hard_labels(protocol)
    return {plain: "without_augmentation", hard: "hard_labels", protocol: "results"}


def _rows(
    entries: Sequence[Entry], measured: Sequence[Sequence[Measured]], ground: Ground, protocol: Protocol
) -> list[dict[str, Any]]:
    config, rows = ground.config, []
    published = dataset_of(ground.test.class_names) if _is_published(protocol, config) else None
    for one, values in zip(entries, measured, strict=True):
        notes = [_MAYBE_SEEN] if config.val_fraction and one.candidate.origin is None else []
        notes += [_SEEN] if one.candidate.made_from == ground.test.name else []
        notes += [_MAYBE_TAUGHT] if config.val_fraction and one.protocol.labels != "hard" else []
        rows.append(record.row_of(one, values, published if one.protocol == protocol else None, notes))
    return rows


def _result(
    entries: Sequence[Entry],
    rows: Sequence[dict[str, Any]],
    measured: Sequence[Sequence[Measured]],
    ground: Ground,
    protocol: Protocol,
) -> dict[str, Any]:
    config, test, parts = ground.config, ground.test, _parts(protocol)
    split: dict[str, list[dict[str, Any]]] = {"results": [], "without_augmentation": [], "hard_labels": []}
    for one, row in zip(entries, rows, strict=True):
        split[parts[one.protocol]].append(row)
    candidates = [one.candidate for one in entries if one.protocol == protocol]
    return {
        "protocol": protocol.name,
        "scaled": config.epochs_scale != 1,
        "settings": record.settings(protocol, config, list(dict.fromkeys(one.network for one in entries))),
        "classes": list(test.class_names),
        "teacher": ground.soft.record if ground.soft else None,
        **split,
        "across_sets": record.across_sets(candidates, split["results"]),
        "scores": rank(entries, rows, protocol),
        "test": _test_record(test, candidates, config),
        "dataset": dataset_of(test.class_names),
        "measured": sum(not m.kept for values in measured for m in values),
        "kept": sum(m.kept for values in measured for m in values),
    }


def _is_published(protocol: Protocol, config: EvaluationConfig) -> bool:
    """Whether this is a published protocol to the letter, on test data: only then do papers' numbers stand beside."""
    original = PROTOCOLS.get(protocol.name)
    same = original is not None and replace(protocol, evaluations=original.evaluations) == original
    same = same and (protocol.labels == "hard" or config.teacher == _TEACHER)
    return same and config.epochs_scale == 1 and config.val_fraction is None


def _judges(
    test: Source | str | Path | None, real: Source | str | Path | None, config: EvaluationConfig
) -> tuple[Source, Source | None]:
    """(what to judge on, the real data that baselines may draw from)."""
    opened = real if isinstance(real, Source) or real is None else open_dataset(str(real))
    if config.val_fraction is not None and opened is not None:
        train, validation = split_validation(opened, config.val_fraction)
        return validation, train
    return test if isinstance(test, Source) else open_dataset(str(test)), opened


def _open_sets(sets: Sequence[Source | str | Path], test: Source, protocol: Protocol) -> list[Candidate]:
    """Each once, however often it was named: twice in one cell of a table it would make a spread of zero."""
    once = {id(given) if isinstance(given, Source) else Path(given).expanduser().resolve(): given for given in sets}
    candidates = [open_candidate(given, test, protocol) for given in once.values()]
    for candidate in candidates:
        if candidate.directory is not None:
            prepare(candidate.directory / "evaluation" / "cells")
    return candidates


def _open_baselines(
    candidates: Sequence[Candidate], names: Sequence[str], real: Source | None, test: Source
) -> list[Candidate]:
    """Each baseline once for all sets that it would be the same for."""
    made: dict[tuple[Any, ...], Candidate] = {}
    for name in names:
        for like in candidates:
            source = real or open_real(like)
            ipc = None if name == "full" else like.ipc
            key = (name, ipc, like.size, like.mode, source.name, source.counts)
            if key not in made:
                made[key] = open_baseline(name, like, source, test)
    return list(made.values())


def _test_record(test: Source, candidates: Sequence[Candidate], config: EvaluationConfig) -> dict[str, Any]:
    sizes = sorted({candidate.size for candidate in candidates})
    return {
        "name": test.name,
        "part": "test" if config.val_fraction is None else "validation",
        "images": sum(test.counts),
        "counts": list(test.counts),
        "size": sizes[0] if len(sizes) == 1 else sizes,
        "stored_size": stored_side(test),
        "digest": test.digest,
    }


def _write(
    entries: Sequence[Entry],
    rows: Sequence[dict[str, Any]],
    result: dict[str, Any],
    parts: dict[Protocol, str],
) -> list[str]:
    """One file in each distilled dataset: its rows and its baselines'. `entries[i]` is what `rows[i]` is of."""
    files = []
    for directory, own in {c.directory: c for c in (one.candidate for one in entries) if c.directory}.items():
        mine: dict[str, list[dict[str, Any]]] = {key: [] for key in parts.values()}
        for one, row in zip(entries, rows, strict=True):
            if one.candidate is own or one.candidate.serves(own):
                mine[parts[one.protocol]].append(row)
        scores = [row for row in result["scores"] if row["set"] == own.name]
        contents = [[row["set"], row["digest"]] for row in mine["results"]]
        teacher = result["teacher"] and result["teacher"]["digest"]
        name = digest([result["settings"], result["test"]["digest"], contents, teacher])
        path = directory / "evaluation" / f"{result['protocol']}-{name}.json"
        record.write(path, {**result, **mine, "scores": scores})
        files.append(str(path))
    return files
