"""`evaluate`: every set and baseline, with every network, as often as asked; one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from dap.backbones import pick_device
from dap.config import EvaluationConfig, digest
from dap.data import Source, open_dataset
from dap.errors import ConfigError
from dap.evaluation import record
from dap.evaluation.batches import Labelled, hard_batches
from dap.evaluation.fit import Fit, fit
from dap.evaluation.networks import build_network, check_networks, network_name
from dap.evaluation.protocols import Plan, Protocol, get_protocol
from dap.evaluation.sets import (
    Candidate,
    check_baselines,
    load_test,
    open_baseline,
    open_candidate,
    open_real,
)
from dap.evaluation.soft import Soft, open_soft

Progress = Callable[[int, int, str], None]
HeldOut = Callable[[int, str], Labelled]


def evaluate(
    sets: Sequence[Source | str | Path],
    test: Source | str | Path,
    *,
    real: Source | str | Path | None = None,
    config: EvaluationConfig | None = None,
    baselines: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What training sets are worth to networks: trained on them, judged on real test data.

    sets       distilled datasets, other folders of class folders, or Sources; their classes are matched with
               the test data's by name, and the test images brought to their size
    test       real test data: a Source or a spec such as "digits:test"
    real       the real training data, for baselines; None: what the distilled set records
    baselines  "random" (as many real images per class, a new draw each repeat), "full" (all of them)
    progress   called with (training steps done, steps in all, what is being trained)

    Accuracies are fractions. The headline is "last", after the last step; "best" is the largest of all
    evaluations on the test data and never to be quoted alone. Repeat r trains with seed r. The result of each
    distilled dataset (and of the baselines) is also written to DIR/evaluation/<protocol>-<digest>.json; those
    paths are in "files".

    Raises: ConfigError for unknown names, DataError for sets that do not fit the test data, StoreError for a
    dataset that is damaged or cannot be written to. The form of the result: `dap.evaluation.record`.
    """
    config = config or EvaluationConfig()
    protocol = get_protocol(config.protocol, config.flip)
    networks = _networks(config, protocol)
    check_baselines(baselines)
    if not sets:
        raise ConfigError("no set to evaluate; name at least one: dap evaluate DIR --test DATA")
    device = pick_device(device)
    test = test if isinstance(test, Source) else open_dataset(str(test))
    candidates = _open_sets(sets, test, protocol)
    candidates += _open_baselines(candidates, baselines, real, test)
    for size in {candidate.size for candidate in candidates}:
        check_networks(networks, len(test.class_names), size)
    held_out = cache(lambda size, mode: load_test(test, protocol, size=size, mode=mode))
    soft = open_soft(config, protocol, candidates, test, held_out, device)
    jobs = [(candidate, network) for candidate in candidates for network in networks]
    rows = _run(jobs, held_out, soft, protocol, config, device, progress)
    owners = [candidate for candidate, _ in jobs]
    result = {
        "protocol": protocol.name,
        "scaled": config.epochs_scale != 1,
        "settings": record.settings(protocol, config, networks),
        "classes": list(test.class_names),
        "teacher": soft.record if soft else None,
        "results": rows,
        "across_sets": record.across_sets(owners, rows),
        "test": _test_record(test, candidates),
        **record.surroundings(device),
    }
    return {**result, "files": _write(owners, result)}


def _networks(config: EvaluationConfig, protocol: Protocol) -> tuple[str, ...]:
    """The networks to train; a name that does not exist is found before anything is read."""
    return tuple(dict.fromkeys(network_name(network) for network in config.networks or (protocol.network,)))


def _open_sets(sets: Sequence[Source | str | Path], test: Source, protocol: Protocol) -> list[Candidate]:
    candidates = [open_candidate(given, test, protocol) for given in sets]
    for candidate in candidates:
        if candidate.directory is not None:
            record.prepare(candidate.directory)
    return candidates


def _open_baselines(
    candidates: Sequence[Candidate], names: Sequence[str], real: Source | str | Path | None, test: Source
) -> list[Candidate]:
    """Each baseline once for all sets that it would be the same for."""
    opened = real if isinstance(real, Source) or real is None else open_dataset(str(real))
    made: dict[tuple[Any, ...], Candidate] = {}
    for name in dict.fromkeys(names):
        for like in candidates:
            source = opened or open_real(like)
            ipc = None if name == "full" else like.ipc
            key = (name, ipc, like.size, like.mode, source.name, source.counts)
            if key not in made:
                made[key] = open_baseline(name, like, source, test)
    return list(made.values())


def _run(
    jobs: Sequence[tuple[Candidate, str]],
    held_out: HeldOut,
    soft: Soft | None,
    protocol: Protocol,
    config: EvaluationConfig,
    device: str,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    classes = len(jobs[0][0].counts)
    plans = [_plan(candidate, protocol, config, network) for candidate, network in jobs]
    if soft is not None:
        soft.check_disk([(candidate, plan) for (candidate, _), plan in zip(jobs, plans, strict=True)], config.repeats)
    total, done, rows = config.repeats * sum(plan.steps for plan in plans), 0, []
    for (candidate, network), plan in zip(jobs, plans, strict=True):
        fits: list[Fit] = []
        digests: list[str] = []
        for repeat in range(config.repeats):
            train, content = candidate.draw(repeat)
            what = f"{candidate.name}, {network}, repeat {repeat + 1} of {config.repeats}"
            one = fit(
                partial(build_network, network, classes, size=candidate.size),
                train,
                held_out(candidate.size, candidate.mode),
                classes=classes,
                protocol=protocol,
                plan=plan,
                seed=repeat,
                device=device,
                batches=soft.batches(candidate, train, plan) if soft else hard_batches,
                bf16=config.dtype == "bf16",
                compiled=config.compile,
                progress=_counted(progress, done, total, what),
            )
            done += plan.steps
            fits.append(one)
            digests.append(content)
        rows.append(record.row_of(candidate, network, protocol, plan, fits, digests))
    return rows


def _plan(candidate: Candidate, protocol: Protocol, config: EvaluationConfig, network: str) -> Plan:
    return protocol.plan(
        classes=len(candidate.counts),
        images=sum(candidate.counts),
        ipc=candidate.ipc,
        scale=config.epochs_scale,
        network=network,
    )


def _counted(progress: Progress | None, before: int, total: int, what: str) -> Callable[[int, int], None] | None:
    """The progress of one run as that of all of them."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total, what)


def _test_record(test: Source, candidates: Sequence[Candidate]) -> dict[str, Any]:
    sizes = sorted({candidate.size for candidate in candidates})
    return {
        "name": test.name,
        "images": sum(test.counts),
        "counts": list(test.counts),
        "size": sizes[0] if len(sizes) == 1 else sizes,
        "digest": test.digest,
    }


def _write(owners: Sequence[Candidate], result: dict[str, Any]) -> list[str]:
    """One file in each distilled dataset: its rows and its baselines'. `owners[i]` is the set of
    `results[i]`.
    """
    files = []
    for directory, own in {c.directory: c for c in owners if c.directory is not None}.items():
        pairs = zip(owners, result["results"], strict=True)
        rows = [row for owner, row in pairs if owner is own or owner.serves(own)]
        contents = [[row["set"], row["digest"]] for row in rows]
        name = digest([result["settings"], result["test"]["digest"], contents])
        path = directory / "evaluation" / f"{result['protocol']}-{name}.json"
        record.write(path, {**result, "results": rows})
        files.append(str(path))
    return files
