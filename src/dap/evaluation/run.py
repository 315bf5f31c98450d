"""`evaluate`: every set and baseline, with every network, as often as asked; one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dap.backbones import pick_device
from dap.config import EvaluationConfig, digest
from dap.data import Source, open_dataset, split_validation
from dap.errors import ConfigError
from dap.evaluation import record
from dap.evaluation.cells import Measured, open_cache, prepare
from dap.evaluation.matrix import Entry, Ground, Progress, Worker, entry, measure, without_augmentation
from dap.evaluation.networks import network_size
from dap.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from dap.evaluation.published import dataset_of
from dap.evaluation.ranking import NEEDED, rank
from dap.evaluation.sets import Candidate, check_baselines, open_baseline, open_candidate, open_real

_MAYBE_SEEN = "judged on a part of the training data, which the set may have been distilled from"


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
) -> dict[str, Any]:
    """What training sets are worth to networks: trained on them, judged on real test data.

    sets       distilled datasets, other folders of class folders, or Sources; their classes are matched with
               the test data's by name, and the test images brought to their size
    test       real test data: a Source or a spec such as "digits:test"; not looked at, and not needed, where
               `config.val_fraction` asks to judge on a validation part of `real`
    real       the real training data, for baselines; None: what the distilled set records
    baselines  as many real images per class, a new draw each repeat where chance decides: "random", "herding",
               "kmeans", "kcenter"; and "full", all of them
    scores     measure all that LRS and ARS need: the baselines random and full, and runs without augmentation
    cache      the folder that keeps the trainings of plain folders and baselines; None: `dap.evaluation.cells`
    progress   called with (training steps done, steps to do in this call, what is being trained)

    Accuracies are fractions. The headline is "last", after the last step; "best" is the largest of all
    evaluations on the test data and never to be quoted alone. Repeat r trains with seed r. Each training is kept as
    it ends: after an interruption the same call goes on, and nothing is measured twice. The result of each distilled
    dataset (and of its baselines) is also written to DIR/evaluation/<protocol>-<digest>.json; those paths are in
    "files".

    Raises: ConfigError for unknown names, DataError for sets that do not fit the test data, StoreError for a
    dataset that is damaged or cannot be written to. The form of the result: `dap.evaluation.record`.
    """
    config = config or EvaluationConfig()
    protocol = _protocol(config)
    networks = _networks(config, protocol)
    check_baselines(baselines)
    if not sets:
        raise ConfigError("no set to evaluate; name at least one: dap evaluate DIR --test DATA")
    device, store = pick_device(Worker.here().device(device)), open_cache(cache)
    test, real = _judges(test, real, config)
    candidates = _open_sets(sets, test, protocol)
    names = dict.fromkeys([*baselines, *(NEEDED if scores else ())])
    candidates += _open_baselines(candidates, list(names), real, test)
    ground = Ground(test=test, config=config, device=device)
    entries = [entry(c, network, protocol, ground, store) for c in candidates for network in networks]
    twins = _twins(entries, ground, store) if scores else {}
    measured = measure([*entries, *twins.values()], ground, progress)
    result = _result(entries, twins, measured, ground, protocol)
    result |= {"cache": None if store is None else str(store), **record.surroundings(device)}
    return {**result, "files": _write(entries, result)}


def _result(
    entries: Sequence[Entry],
    twins: Mapping[int, Entry],
    measured: Sequence[Sequence[Measured]],
    ground: Ground,
    protocol: Protocol,
) -> dict[str, Any]:
    """`measured` holds the entries' values and then the twins'."""
    config, test = ground.config, ground.test
    known = dataset_of(test.class_names)
    comparable = known if _is_published(protocol, config) else None
    rows: list[dict[str, Any]] = []
    for one, values in zip([*entries, *twins.values()], measured, strict=True):
        notes = (_MAYBE_SEEN,) if config.val_fraction and one.candidate.origin is None else ()
        rows.append(record.row_of(one, values, comparable if len(rows) < len(entries) else None, notes))
    results, plain = rows[: len(entries)], dict(zip(twins, rows[len(entries) :], strict=True))
    candidates = [one.candidate for one in entries]
    return {
        "protocol": protocol.name,
        "scaled": config.epochs_scale != 1,
        "settings": record.settings(protocol, config, list(dict.fromkeys(one.network for one in entries))),
        "classes": list(test.class_names),
        "results": results,
        "across_sets": record.across_sets(candidates, results),
        "scores": rank(entries, results, plain),
        "without_augmentation": list(plain.values()),
        "test": _test_record(test, candidates, config),
        "dataset": known,
        "measured": sum(not m.kept for values in measured for m in values),
        "kept": sum(m.kept for values in measured for m in values),
    }


def _protocol(config: EvaluationConfig) -> Protocol:
    protocol = get_protocol(config.protocol, config.flip)
    return protocol if config.evaluations is None else replace(protocol, evaluations=config.evaluations)


def _networks(config: EvaluationConfig, protocol: Protocol) -> tuple[str, ...]:
    """The networks to train, each once; a name that does not exist is found before anything is read."""
    for network in config.networks:
        network_size(network, 1)
    return tuple(dict.fromkeys(config.networks)) or (protocol.network,)


def _is_published(protocol: Protocol, config: EvaluationConfig) -> bool:
    """Whether this is a published protocol to the letter, on test data: only then do papers' numbers stand beside."""
    original = PROTOCOLS.get(protocol.name)
    same = original is not None and replace(protocol, evaluations=original.evaluations) == original
    return same and config.epochs_scale == 1 and config.val_fraction is None


def _judges(
    test: Source | str | Path | None, real: Source | str | Path | None, config: EvaluationConfig
) -> tuple[Source, Source | None]:
    """(what to judge on, the real data that baselines may draw from)."""
    opened = real if isinstance(real, Source) or real is None else open_dataset(str(real))
    if config.val_fraction is not None:
        if opened is None:
            raise ConfigError("a validation fraction needs the training data to split: add --real DATA")
        train, validation = split_validation(opened, config.val_fraction)
        return validation, train
    if test is None:
        raise ConfigError("no test data; add --test DATA (or --real DATA --val-fraction 0.1 to judge without them)")
    return test if isinstance(test, Source) else open_dataset(str(test)), opened


def _open_sets(sets: Sequence[Source | str | Path], test: Source, protocol: Protocol) -> list[Candidate]:
    candidates = [open_candidate(given, test, protocol) for given in sets]
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


def _twins(entries: Sequence[Entry], ground: Ground, store: Path | None) -> dict[int, Entry]:
    """Position of a row -> the same without augmentation, for what ARS needs: sets and the random baseline."""
    out = {}
    for i, one in enumerate(entries):
        plain = without_augmentation(one.protocol)
        if plain != one.protocol and (one.candidate.origin is None or one.candidate.name == "random"):
            out[i] = entry(one.candidate, one.network, plain, ground, store)
    return out


def _test_record(test: Source, candidates: Sequence[Candidate], config: EvaluationConfig) -> dict[str, Any]:
    sizes = sorted({candidate.size for candidate in candidates})
    return {
        "name": test.name,
        "part": "test" if config.val_fraction is None else "validation",
        "images": sum(test.counts),
        "counts": list(test.counts),
        "size": sizes[0] if len(sizes) == 1 else sizes,
        "digest": test.digest,
    }


def _write(entries: Sequence[Entry], result: dict[str, Any]) -> list[str]:
    """One file in each distilled dataset: its rows and its baselines'. `entries[i]` is what `results[i]` is of."""
    files, owners = [], [one.candidate for one in entries]
    for directory, own in {c.directory: c for c in owners if c.directory is not None}.items():
        pairs = zip(owners, result["results"], strict=True)
        rows = [row for owner, row in pairs if owner is own or owner.serves(own)]
        contents = [[row["set"], row["digest"]] for row in rows]
        name = digest([result["settings"], result["test"]["digest"], contents])
        path = directory / "evaluation" / f"{result['protocol']}-{name}.json"
        names = {(row["set"], row["ipc"], row.get("image_size", own.size)) for row in rows}
        mine = {
            key: [row for row in result[key] if (row["set"], row["ipc"], row.get("image_size", own.size)) in names]
            for key in ("scores", "without_augmentation")
        }
        record.write(path, {**result, **mine, "results": rows})
        files.append(str(path))
    return files
