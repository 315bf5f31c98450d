"""What a report does not show, and what has to be typed to know more: said as plainly as the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dap.reporting.figures import headline
from dap.reporting.reading import SetView

LEAST_SEEDS = 3


def missing(view: SetView, test: str) -> list[tuple[str, str]]:
    """(what is not known yet, the command that finds out)."""
    source = str(view.table("data").get("source") or "DATA")
    out = []
    if headline(view) is None:
        words = ["dap", "evaluate", view.name, "--test", test, "--baseline", "random"]
        out.append(("Not evaluated yet: what a network learns from this set is not known.", shlex.join(words)))
    if view.metrics is None:
        words = ["dap", "measure", view.name, "--reference", source, "--test", test]
        out.append(("Not measured yet: no metrics, neighbours or maps.", shlex.join(words)))
    return out


def no_test_map(view: SetView, test: str) -> str | None:
    """The command for a map on test images, where there is only one on training images."""
    maps = (view.metrics or {}).get("maps")
    if not isinstance(maps, dict) or "test" in maps:
        return None
    source = str(view.table("data").get("source") or "DATA")
    return shlex.join(["dap", "measure", view.name, "--reference", source, "--test", test])


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
            out.append(f"{len(result.values)} training seed: the accuracy has no spread worth the name.")
        if not (result.whole.get("across_sets") or len(views) > 1):
            out.append(
                "One generation seed: another seed makes other images, and that spread is usually the larger one."
            )
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
