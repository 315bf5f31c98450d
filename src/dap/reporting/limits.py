"""What a report does not show, and what has to be typed to know more: said as plainly as the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dap.reporting.figures import headline
from dap.reporting.reading import SetView
from dap.reporting.reproduce import evaluate_words
from dap.terminal import counted

LEAST_SEEDS = 3


def missing(views: Sequence[SetView]) -> list[tuple[str, str]]:
    """(what is not known yet, the command that finds out), for all sets that lack it at once."""
    real, test = real_data(views[0])
    out = []
    if lacking := [view for view in views if headline(view) is None]:
        words = evaluate_words([v.given for v in lacking], [v.store for v in lacking], test)
        what = f"Not evaluated yet{_which(lacking, views)}: what a network learns from it is not known."
        out.append((what, shlex.join(words)))
    if lacking := [view for view in views if not view.measured]:
        words = ["dap", "measure", *(v.given for v in lacking), "--reference", real, "--test", test]
        out.append((f"Not measured yet{_which(lacking, views)}: no metrics, neighbours or maps.", shlex.join(words)))
    return out


def _which(lacking: Sequence[SetView], views: Sequence[SetView]) -> str:
    return "" if len(views) == 1 else f" ({', '.join(view.name for view in lacking)})"


def no_test_map(view: SetView) -> str | None:
    """The command for a map on test images, where there is only one on training images."""
    maps = (view.metrics or {}).get("maps")
    if not isinstance(maps, dict) or "test" in maps:
        return None
    real, test = real_data(view)
    return shlex.join(["dap", "measure", view.given, "--reference", real, "--test", test])


def real_data(view: SetView) -> tuple[str, str]:
    """What the set was distilled from, split included, and where the test images probably are."""
    data = view.table("data")
    source, split = str(data.get("source") or "DATA"), data.get("split")
    real = f"{source}:{split}" if split else source
    return real, f"{real[:-5]}test" if real.endswith("train") else real if ":" in real else f"{real}:test"


def limits(views: Sequence[SetView]) -> list[str]:
    """Sentences on what these numbers cannot say, from what was and was not measured."""
    view = views[0]
    result, own = headline(view), [r for r in view.results if not r.baseline]
    out = ["A distilled set is for training. It says nothing about how good a network is: test on real images."]
    if result is not None:
        networks = {r.network for r in own}
        if len(networks) == 1:
            out.append(f"Only {result.network} was trained. Other networks may rank sets differently.")
        if len(result.values) < LEAST_SEEDS:
            out.append(f"{counted(len(result.values), 'training seed')}: the accuracy has no spread worth the name.")
        if not (result.whole.get("across_sets") or len(views) > 1):
            out.append("One generation seed: another seed makes other images, and that spread may be the larger one.")
        if result.scaled:
            out.append("The protocol was shortened: the accuracy compares only with others shortened alike.")
        if result.best is not None:
            out.append("“Best” is chosen on the test data and flatters; the last step is the number to quote.")
    if view.metrics is not None:
        features = str((view.metrics.get("features") or {}).get("name", "features"))
        out.append(f"Metrics are those of {features}. In other features sets may rank differently.")
        if " of the backbone" in features:
            out.append(
                "These features guided the set, if anything did: they flatter it. Pixels or a classifier do not."
            )
        out.append("The energy distance grows as images per class fall: compare sets of equal size only.")
        out.append("Intervals are over classes, not over seeds.")
        out.append(
            "Near-copies are those that these features see. None found is no proof that nothing was memorised, and no "
            "word on licences or privacy."
        )
    if (view.metrics or {}).get("maps"):
        out.append(
            "A t-SNE map keeps neighbours and nothing else: sizes of clusters and gaps between them mean nothing."
        )
    return out
