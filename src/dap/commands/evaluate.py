"""`dap evaluate`: what is typed, and progress over all trainings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dap.commands.options import ConfigFile, Device, Json, Override, Quiet
from dap.commands.settings import given, settings_of
from dap.terminal import Talk, counted, known_failures, saving

if TYPE_CHECKING:
    from dap.evaluation.matrix import Ahead


def evaluate(
    sets: Annotated[list[Path] | None, typer.Argument(help="Distilled sets, or any folders of class folders")] = None,
    test: Annotated[str | None, typer.Option(help="The test data, e.g. digits:test or DIR:test")] = None,
    real: Annotated[str | None, typer.Option(help="The real training data, for baselines and --val-fraction")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="hard-tiny, soft-rded, my.toml, ...  [default: hard-small]")
    ] = None,
    network: Annotated[list[str] | None, typer.Option(help="Repeatable  [default: the protocol's own]")] = None,
    repeats: Annotated[int | None, typer.Option(help="Training seeds  [default: 3]")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="random, herding, kmeans, kcenter, full; repeatable")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="LRS and ARS, and all runs that they need")] = False,
    teacher: Annotated[
        str | None, typer.Option(help="For soft labels: a directory, torchvision:NAME, timm:NAME, a file")
    ] = None,
    teacher_network: Annotated[str | None, typer.Option(help="The network of a file of weights")] = None,
    teacher_classes: Annotated[str | None, typer.Option(help="Its class names, one a line")] = None,
    epochs_scale: Annotated[float | None, typer.Option(help="Shorten the protocol; marked scaled")] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Judge on this share of --real instead of the test data, to choose something")
    ] = None,
    table: Annotated[list[Path] | None, typer.Option(help="Write FILE.csv or FILE.md; repeatable")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where trainings and labels of baselines and plain folders are kept")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32 or bf16  [default: fp32]")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile of the networks")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show all protocols and networks; evaluate nothing")] = False,
    device: Device = None,
    config: ConfigFile = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train networks on distilled sets and test them on real images; run the same command again to go on."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures(), saving(lambda: "finished trainings are kept"):
        if not sets and not list_:
            raise typer.BadParameter("give the sets to judge, or --list")
        flags = {
            "evaluation": given(protocol=protocol, networks=network, repeats=repeats, epochs_scale=epochs_scale)
            | given(teacher=teacher, teacher_network=teacher_network, teacher_classes=teacher_classes)
            | given(val_fraction=val_fraction, dtype=dtype, compile=compile_),
            "backbone": given(device=device),
        }
        settings = settings_of(config, set_, flags, "evaluate")
        if list_:
            talk.result(*list_protocols(settings.evaluation.protocol))
            return
        from dap.commands.results import say_result

        how, device = settings.evaluation, settings.backbone.device
        more: dict[str, Any] = {"scores": scores, "cache": cache, "tables": table or []}
        result = run_evaluate(sets or [], test, real, how, baseline or [], device or "auto", talk, **more)
        say_result(result, talk)


def run_evaluate(
    sets: Sequence[Path],
    test: str | None,
    real: str | None,
    config: Any,
    baselines: Sequence[str],
    device: str,
    talk: Talk,
    *,
    scores: bool = False,
    cache: Path | None = None,
    tables: Sequence[Path] = (),
) -> dict[str, Any]:
    """The result of `dap.evaluation.evaluate`, with progress drawn while it runs and `tables` written at the end."""
    from dap.commands.results import say_more
    from dap.evaluation import evaluate
    from dap.evaluation.matrix import Worker
    from dap.evaluation.table import check_table

    if Worker.here().rank:  # one of several processes: the first one speaks for all
        talk, tables = Talk(quiet=True), ()
    for path in tables:
        check_table(path)
    announce(config, sets, test, real, baselines, talk)
    trained = Trained(talk)
    with saving(trained.said), talk.progress("evaluate", 0) as meter, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: talk.say(f"warning: {message}")
        result = evaluate(
            sets,
            test,
            real=real,
            config=config,
            baselines=baselines,
            scores=scores,
            cache=cache,
            device=device,
            progress=lambda done, total, what: meter.at(done, what, total=total),
            on_plan=trained.plan,
            on_kept=trained.keep,
        )
    say_more(result, tables, talk, scores=scores)
    return result


class Trained:
    """What an evaluation has to train, and how much of it is kept when it is interrupted."""

    def __init__(self, talk: Talk) -> None:
        self._talk, self._trainings, self._kept = talk, 0, 0

    def plan(self, ahead: Ahead) -> None:
        """Before the first training."""
        from dap.commands.results import outlook

        self._trainings = ahead.trainings
        self._talk.say(outlook(ahead))

    def keep(self) -> None:
        """After each training."""
        self._kept += 1

    def said(self) -> str:
        """In words."""
        return f"{self._kept} of {counted(self._trainings, 'training')} are kept" if self._trainings else ""


def announce(
    config: Any, sets: Sequence[Path], test: str | None, real: str | None, baselines: Sequence[str], talk: Talk
) -> None:
    """Says what is going to be read; a wrong name is refused before that. Raises: ConfigError."""
    from dap.evaluation.asked import asked

    asked(config, sets, test, real, baselines)
    judge = real if config.val_fraction else test
    talk.say(f"reading {counted(len(sets), 'set')}{f' and {judge}' if judge else ''}")
    if test is not None and real is not None and config.val_fraction:
        talk.say(f"--test {test} is not looked at: --val-fraction judges on a part of --real")


def list_protocols(asked: str) -> tuple[dict[str, Any], str]:
    """Every protocol and network, as a record and as text; the one that was asked for too, if it is a user's own."""
    from dap.config import as_record
    from dap.evaluation.networks import NETWORKS
    from dap.evaluation.protocols import PROTOCOLS, get_protocol
    from dap.evaluation.wording import described

    own = get_protocol(asked)
    shown = {**PROTOCOLS, own.name: own}
    text = ["\n".join([name, *(f"  {what:<18} {how}" for what, how in described(p))]) for name, p in shown.items()]
    networks = "networks\n  " + ", ".join(NETWORKS) + "\n  any of torchvision:NAME and timm:NAME"
    record = {name: {**as_record(p), "digest": p.digest} for name, p in shown.items()}
    return {"protocols": record, "networks": list(NETWORKS)}, "\n\n".join([*text, networks])
