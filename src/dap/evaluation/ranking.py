"""DD-Ranking's scores of every set, from the rows that were measured; where one is missing, which, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dap.evaluation.candidate import Candidate
from dap.evaluation.matrix import Entry, with_hard_labels, without_augmentation
from dap.evaluation.protocols import Protocol
from dap.evaluation.scores import augmentation_robust_score, label_robust_score, score

Row = Mapping[str, Any]
NEEDED = ("random", "full")  # the baselines that the scores compare with
REMEDY = "add --scores (it measures them, each once), and --real DATA where a set records none"


def needed_protocols(candidate: Candidate, protocol: Protocol) -> list[Protocol]:
    """What the scores need measured of a set or baseline, `protocol` itself among it where it is.

    LRS compares under `protocol` with random images, and under hard labels with the full data; ARS with random images,
    under `protocol` and without its augmentation.
    """
    plain, hard = without_augmentation(protocol), with_hard_labels(protocol)
    needed = [protocol, plain, hard]
    if candidate.origin is not None:
        needed = {"random": [protocol, plain], "full": [hard]}.get(candidate.name, [])
    return list(dict.fromkeys(needed))


def rank(entries: Sequence[Entry], rows: Sequence[Row], protocol: Protocol) -> list[dict[str, Any]]:
    """One record for each set and network: {"set", "network", "ipc", "lrs", "ars", "missing", "remedy"}.

    entries  `entries[i]` is what `rows[i]` was measured for: sets and baselines, under `protocol` and under those that
             `needed_protocols` adds

    A score is {"mean", "sd", "values"}, repeat by repeat, or None where something is missing.
    """
    plain, hard = without_augmentation(protocol), with_hard_labels(protocol)
    out = []
    for own, row in zip(entries, rows, strict=True):
        if own.candidate.origin is not None or own.protocol != protocol:
            continue
        find = partial(_find, own, entries, rows)
        random, missing = find(protocol, "random"), []
        lrs = [row, random, find(hard, "full"), find(hard)]
        ars = [row, random, find(plain), find(plain, "random")]
        if random is None:
            missing.append("baseline random")
        if None in lrs[2:]:
            missing.append("baseline full" if hard == protocol else "accuracies under hard labels")
        if random is not None and None in ars[2:]:
            missing.append("runs without augmentation")
        remedy, unaugmented = REMEDY if missing else None, plain == protocol
        if unaugmented:  # there is nothing that ARS could switch off
            missing.append("augmentation in the protocol")
        out.append(
            {key: row[key] for key in ("set", "network", "ipc")}
            | {"lrs": _score(label_robust_score, lrs)}
            | {"ars": None if unaugmented else _score(augmentation_robust_score, ars)}
            | {"missing": missing, "remedy": remedy}
        )
    return out


def _find(
    own: Entry, entries: Sequence[Entry], rows: Sequence[Row], protocol: Protocol, baseline: str | None = None
) -> Row | None:
    """The row of `own`'s set, or of the baseline that serves it, under `protocol`."""
    for other, row in zip(entries, rows, strict=True):
        mine = other.candidate is own.candidate
        if baseline is not None:
            mine = other.candidate.name == baseline and other.candidate.serves(own.candidate)
        if mine and other.network == own.network and other.protocol == protocol:
            return row
    return None


def _score(formula: Callable[..., float], rows: Sequence[Row | None]) -> dict[str, Any] | None:
    """The formula on the last accuracies, repeat by repeat: the seeds agree."""
    there = [row for row in rows if row is not None]
    if len(there) < len(rows):
        return None
    values = zip(*(row["last"]["values"] for row in there), strict=True)
    return score([formula(*accuracies) for accuracies in values]).as_record()
