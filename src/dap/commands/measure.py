"""`dap measure`: progress over all images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from dap.config import BackboneConfig, Config
from dap.metrics import measure
from dap.terminal import Talk, counted, measured_table


def run_measure(
    sets: list[Path], reference: str | None, test: str | None, named: bool, config: Config, talk: Talk
) -> tuple[dict[str, Any], Table]:
    """The result of `dap.measure` and the table for people, with progress drawn while it runs.

    named  whether the user named a backbone; else each set's own is taken
    """
    device = config.backbone.device
    chosen = named or replace(config.backbone, device="auto") != BackboneConfig()
    talk.say(f"reading {counted(len(sets), 'set')}{f' and {reference}' if reference else ''}")
    with talk.progress("measure", 0) as meter:
        result = measure(
            sets,
            reference,
            test=test,
            backbone=asdict(config.backbone) if chosen else None,
            config=config.metrics,
            device=device,
            progress=lambda done, total, what: meter.at(done, what, total=total),
        )
    for note in dict.fromkeys(note for one in result["sets"] for note in one["notes"]):
        talk.say(f"note: {note}")
    for path in result["files"]:
        talk.say(f"wrote {path}")
    return result, measured_table(title_of(result), result["sets"])


def title_of(result: Mapping[str, Any]) -> str:
    """What was compared in which space."""
    real = result["reference"]
    return f"{result['features']['name']}, against {real['images']} images of {real['name']}"
