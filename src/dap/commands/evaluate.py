"""`dap evaluate`: progress over all trainings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from dap.config import EvaluationConfig, as_record
from dap.evaluation import evaluate
from dap.evaluation.networks import NETWORKS
from dap.evaluation.protocols import PROTOCOLS, get_protocol
from dap.evaluation.wording import described
from dap.terminal import Talk


def run_evaluate(
    sets: list[Path],
    test: str,
    real: str | None,
    config: EvaluationConfig,
    baselines: list[str],
    device: str,
    talk: Talk,
) -> dict[str, Any]:
    """The result of `dap.evaluation.evaluate`, with progress drawn while it runs."""
    talk.say(f"reading {len(sets)} sets and {test}")
    with talk.progress("evaluate", 0) as meter, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: talk.say(f"warning: {message}")
        result = evaluate(
            sets,
            test,
            real=real,
            config=config,
            baselines=baselines,
            device=device,
            progress=lambda done, total, what: meter.at(done, what, total=total),
        )
    for path in result["files"]:
        talk.say(f"wrote {path}")
    return result


def list_protocols(asked: str) -> tuple[dict[str, Any], str]:
    """Every protocol and network, as a record and as text; the one that was asked for too, if it is a user's own."""
    own = get_protocol(asked)
    shown = {**PROTOCOLS, own.name: own}
    text = ["\n".join([name, *(f"  {what:<18} {how}" for what, how in described(p))]) for name, p in shown.items()]
    networks = "networks\n  " + ", ".join(NETWORKS) + "\n  any of torchvision:NAME and timm:NAME"
    record = {name: {**as_record(p), "digest": p.digest} for name, p in shown.items()}
    return {"protocols": record, "networks": list(NETWORKS)}, "\n\n".join([*text, networks])
