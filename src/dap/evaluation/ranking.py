"""DD-Ranking's scores of every set, from the rows that were measured; where one is missing, which, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dap.evaluation.matrix import Entry
from dap.evaluation.scores import augmentation_robust_score, label_robust_score, score

Row = Mapping[str, Any]
NEEDED = ("random", "full")  # the baselines that the scores compare with
REMEDY = "add --scores (it measures them, each once), and --real DATA where a set records none"


def rank(entries: Sequence[Entry], rows: Sequence[Row], plain: Mapping[int, Row]) -> list[dict[str, Any]]:
    """One record for each set and network: {"set", "network", "ipc", "lrs", "ars", "missing"}.

    entries  `entries[i]` is what `rows[i]` was measured for, baselines among them
    plain    the position of a row -> the same without augmentation

    A score is {"mean", "sd", "values"}, repeat by repeat, or None where something is missing.
    """
    out = []
    for i, own in enumerate(entries):
        if own.candidate.origin is not None:
            continue
        random, full = (_baseline(own, name, entries) for name in NEEDED)
        missing = [f"baseline {name}" for name, at in (("random", random), ("full", full)) if at is None]
        soft = getattr(own.protocol, "labels", "hard") != "hard"
        missing += ["accuracies under hard labels (another --protocol)"] if soft else []
        lrs = None if missing else _score(label_robust_score, rows[i], rows[random], rows[full], rows[i])  # type: ignore[index]
        twins = [i in plain, random is not None and random in plain]
        if random is not None and not all(twins):
            missing.append("runs without augmentation")
        ars = None
        if random is not None and all(twins):
            ars = _score(augmentation_robust_score, rows[i], rows[random], plain[i], plain[random])
        row = rows[i]
        out.append(
            {key: row[key] for key in ("set", "network", "ipc")}
            | {"lrs": lrs, "ars": ars, "missing": missing, "remedy": REMEDY if missing else None}
        )
    return out


def _baseline(own: Entry, name: str, entries: Sequence[Entry]) -> int | None:
    for i, other in enumerate(entries):
        if other.candidate.name == name and other.network == own.network and other.candidate.serves(own.candidate):
            return i
    return None


def _score(formula: Callable[..., float], *rows: Row) -> dict[str, Any]:
    """The formula on the last accuracies, repeat by repeat: the seeds agree."""
    values = zip(*(row["last"]["values"] for row in rows), strict=True)
    return score([formula(*accuracies) for accuracies in values]).as_record()
