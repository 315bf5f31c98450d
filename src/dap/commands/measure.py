"""`dap measure`: what is typed, and progress over all images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dap.commands.options import ConfigFile, Device, Json, Override, Quiet
from dap.commands.settings import given, settings_of
from dap.commands.tables import measured_table
from dap.config import BackboneConfig, Config
from dap.terminal import Talk, counted, known_failures


def measure(
    sets: Annotated[list[Path], typer.Argument(help="Distilled sets, or any folders of class folders")],
    reference: Annotated[
        str | None, typer.Option(help="The real images they stand for  [default: what the first set records]")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Held-out real images, for a second map")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Whose tap is used  [default: the backbone that made the first set]")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="tap, pixels, torchvision:NAME or timm:NAME  [default: tap]")
    ] = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Representativeness, diversity, coverage and near-copies of sets, against real images."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        flags = {"metrics": given(features=features), "backbone": given(name=backbone, device=device)}
        settings = settings_of(config, set_, flags, "measure")
        result, table = run_measure(sets, reference, test, backbone is not None, settings, talk)
        talk.result(result, table)
        if result["files"]:
            talk.next(["dap", "report", *(str(Path(file).parents[1]) for file in result["files"])])


def run_measure(
    sets: list[Path], reference: str | None, test: str | None, named: bool, config: Config, talk: Talk
) -> tuple[dict[str, Any], Table]:
    """The result of `dap.measure` and the table for people, with progress drawn while it runs.

    named  whether the user named a backbone; else each set's own is taken
    """
    from dap import metrics

    device = config.backbone.device
    chosen = named or replace(config.backbone, device="auto") != BackboneConfig()
    talk.say(f"reading {counted(len(sets), 'set')}{f' and {reference}' if reference else ''}")
    with talk.progress("measure", 0) as meter:
        result = metrics.measure(
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
    if test is not None:
        talk.say(f"{test} is for a second map in dap report: no number here is of it")
    for path in result["files"]:
        talk.say(f"wrote {path}")
    return result, measured_table(title_of(result), result["sets"])


def title_of(result: Mapping[str, Any]) -> str:
    """What was compared in which space."""
    real = result["reference"]
    return f"{result['features']['name']}, against {real['images']} images of {real['name']}"
