"""`dap teacher`: a network trained on the full data, for soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dap.commands.options import ConfigFile, Data, Device, Json, Override, Quiet, Split, Subset
from dap.commands.settings import given, settings_of
from dap.terminal import Talk, known_failures


def teacher(
    data: Data,
    out: Annotated[Path, typer.Option(help="The directory to write; the same command again goes on")],
    network: Annotated[
        str | None, typer.Option(help="e.g. torchvision:resnet18  [default: the protocol's own]")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="One with hard labels  [default: hard-small]")] = None,
    test: Annotated[str | None, typer.Option(help="Test data to judge it on, once, at the end")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    epochs_scale: Annotated[float | None, typer.Option(help="Shorten the protocol")] = None,
    split: Split = None,
    subset: Subset = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a teacher on the full data; run the same command again to go on."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        flags = {
            "data": given(source=data, split=split, subset=subset),
            "evaluation": given(
                protocol=protocol, networks=None if network is None else [network], epochs_scale=epochs_scale
            ),
            "backbone": given(device=device),
        }
        settings = settings_of(config, set_, flags, "teacher")
        result = run_teacher(settings, out, test, seed, talk)
        right = [f"{part} {value:.1%}" for part, value in result["accuracy"].items() if value is not None]
        talk.result(result, f"{result['network']}, {len(result['class_names'])} classes, right: {', '.join(right)}")
        judged = ["--test", test or "DATA", "--protocol", "soft-rded", "--teacher", str(out)]
        talk.next(["dap", "evaluate", "DIR", *judged])


def run_teacher(settings: Any, out: Path, test: str | None, seed: int, talk: Talk) -> dict[str, Any]:
    """The record of the teacher, with progress drawn while it is trained, and "out"."""
    from dap.data import open_dataset, split_validation
    from dap.errors import ConfigError
    from dap.evaluation.protocols import get_protocol
    from dap.evaluation.teachers.training import train_teacher

    data, asked = settings.data, settings.evaluation
    if len(asked.networks) > 1:
        raise ConfigError(f"a teacher is one network, {len(asked.networks)} were named; give one --network")
    protocol = get_protocol(asked.protocol, asked.flip)
    network = asked.networks[0] if asked.networks else protocol.network
    source = open_dataset(data.source, split=data.split, subset=data.subset)
    if asked.val_fraction is not None:  # what `dap evaluate --val-fraction` judges on is not learned from
        source, _ = split_validation(source, asked.val_fraction)
    held_out = None if test is None else open_dataset(test, subset=data.subset)
    talk.say(f"training {network} on {sum(source.counts)} images of {len(source.class_names)} classes")
    with talk.progress("teacher", 0) as meter:
        record = train_teacher(
            source,
            out,
            network=network,
            protocol=protocol,
            test=held_out,
            seed=seed,
            scale=asked.epochs_scale,
            device=settings.backbone.device,
            bf16=asked.dtype == "bf16",
            compiled=asked.compile,
            progress=lambda done, total: meter.at(done, network, total=total),
        )
    talk.say(f"wrote {out}")
    return {"out": str(out), **record}
