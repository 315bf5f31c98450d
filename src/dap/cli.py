"""The command `dap`: parse, call the library, draw progress, print the next command. Heavy imports wait."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dap._version import __version__
from dap.commands import options
from dap.commands.evaluate import evaluate
from dap.commands.measure import measure
from dap.commands.options import Arch, ConfigFile, Data, Device, Json, Override, Quiet, Split, Subset
from dap.commands.settings import given, likely_test, settings_of
from dap.commands.tables import accuracy_table
from dap.commands.teacher import teacher
from dap.terminal import Talk, duration, known_failures

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil a large labelled image dataset into a tiny synthetic one, guided by a diffusion model's own features.",
)


def main() -> None:
    """Entry point of the command. The working directory is searched last, for a user's own `package.module:Name`."""
    sys.path.append(os.getcwd())
    app()


def _version(show: bool) -> None:
    if show:
        typer.echo(f"dap {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Distil a large labelled image dataset into a tiny synthetic one."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the datasets and the contact sheet go")] = Path("demo"),
    ipc: Annotated[list[int] | None, typer.Option(help="Images per class; repeatable  [default: 1 and 10]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The embedded digits: distil, evaluate, picture. No network, no arguments needed."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.demo import run_demo

        result = run_demo(out, tuple(ipc or (1, 10)), talk)
        title = f"digits, protocol {result['protocol']}, {result['repeats']} training seeds"
        talk.result(result, accuracy_table(title, result["results"]))
        talk.say(f"contact sheet: {result['contact_sheet']}   in all: {duration(result['seconds'])}")
        talk.say(f"report: {result['report']}")
        talk.next(["dap", "distill", "digits:train", "--backbone", "digits", "--ipc", "5", "--out", "digits-5"])


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The pipeline directory to write")],
    start: Annotated[str | None, typer.Option("--from", help="A DiT pipeline to go on from")] = None,
    vae: Annotated[str | None, typer.Option(help="Directory of a VAE: train in its latent space")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training images in pixels")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps  [default: 10000]")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as fp16")] = False,
    split: Split = None,
    subset: Subset = None,
    on_bad_image: Annotated[str | None, typer.Option(help="fail or skip")] = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a class-conditional DiT on your images; run the same command again to go on."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.train import run_train

        flags = {
            "data": given(source=data, split=split, subset=subset, on_bad_image=on_bad_image),
            "backbone": given(vae=vae, device=device),
            "train": given(size=size, steps=steps, seed=seed),
        }
        settings = settings_of(config, set_, flags, "train")
        result = run_train(settings, out, start, half, talk)
        talk.result(result)
        talk.next(["dap", "distill", data, "--backbone", str(out), "--ipc", "10", "--out", f"{out}-ipc10"])


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="An original DiT checkpoint, e.g. DiT-XL-2-256x256.pt")],
    out: Annotated[Path, typer.Option(help="The pipeline directory to write")],
    arch: Arch = None,
    vae: Annotated[str | None, typer.Option(help="Directory or hub id of the VAE to copy into it")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an original DiT checkpoint as a diffusers pipeline directory."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.convert import run_convert

        result = run_convert(checkpoint, arch, out, vae, talk)
        talk.result(result)
        needs = [] if result["vae"] else ["--vae", "DIR"]
        talk.next(["dap", "distill", "DATA", "--backbone", str(out), *needs, "--ipc", "10", "--out", f"{out}-ipc10"])


@app.command()
def distill(
    data: Data,
    out: Annotated[Path, typer.Option(help="The directory to write; the same command again goes on")],
    backbone: Annotated[
        str | None, typer.Option(help="digits, a pipeline directory, a hub id, or a DiT .pt  [default: digits]")
    ] = None,
    arch: Arch = None,
    ipc: Annotated[int | None, typer.Option(help="Images per class  [default: 10]")] = None,
    guidance: Annotated[
        str | None, typer.Option(help="dap, dap-paper, none, or package.module:Class  [default: dap]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several sets at once, e.g. 0,1,2: OUT/seed-0, ...")] = None,
    only: Annotated[list[str] | None, typer.Option(help="CLASS or CLASS:INDEX; repeatable")] = None,
    trace: options.Trace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would make and cost; write nothing")] = False,
    vae: Annotated[str | None, typer.Option(help="Directory or hub id of a VAE for a pipeline without one")] = None,
    prompt: options.Prompt = None,
    split: Split = None,
    subset: Subset = None,
    class_map: Annotated[str | None, typer.Option(help="CSV dataset_class,backbone_class")] = None,
    on_bad_image: Annotated[str | None, typer.Option(help="fail or skip")] = None,
    reference_cache: options.ReferenceCache = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16  [default: fp32]")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile of the model's blocks")] = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Distil DATA into OUT."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.distill import next_words, run_distill

        flags = {
            "data": given(source=data, split=split, subset=subset, class_map=class_map, on_bad_image=on_bad_image),
            "backbone": given(
                name=backbone, arch=arch, vae=vae, prompt=prompt, dtype=dtype, compile=compile_, device=device
            ),
            "guidance": given(name=guidance),
            "run": given(ipc=ipc, seed=seed, reference_cache=reference_cache),
        }
        if seed is not None and seeds is not None:
            raise typer.BadParameter("give --seed or --seeds, not both")
        settings = settings_of(config, set_, flags, "distill")
        result, table = run_distill(settings, out, seeds, only or [], dry_run, talk, trace or [])
        talk.result(result, table)
        if not dry_run:
            outs = [one["out"] for one in result.get("sets", [result])]
            talk.next(next_words(outs, settings, likely_test(data), seeds))


app.command()(teacher)
app.command()(evaluate)
app.command()(measure)


@app.command()
def report(
    sets: Annotated[list[Path], typer.Argument(help="Distilled sets; the first is the one reported on")],
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; figures go beside it  [default: report.html in DIR, or above several]"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One HTML file with pictures, metrics, evaluations, figures and costs; opens without a network."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.report import run_report

        result = run_report(sets, out, talk)
        talk.result(result, f"{result['report']}: {result['bytes'] / 1e6:.1f} MB, {result['shown']} pictures")
        talk.next(["python", "-m", "webbrowser", result["report"]])


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="A distilled set")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every file of a distilled set against what was written; exit 1 when something differs."""
    talk = Talk(quiet=quiet, as_json=as_json)
    with known_failures():
        from dap.commands.verify import mending, run_verify

        record = run_verify(directory)
        problems = record["problems"]
        text = "\n".join(problems) if problems else f"{directory}: {record['images']} images, as they were written"
        talk.result(record, text)
        if again := mending(directory, problems):
            talk.next(again)
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
