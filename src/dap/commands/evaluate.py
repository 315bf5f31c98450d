"""`dap evaluate`: progress over all trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dap.config import EvaluationConfig
from dap.evaluation import evaluate
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
    with talk.progress("evaluate", 0) as meter:
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
