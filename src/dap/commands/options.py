"""Options that several commands share; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str, typer.Argument(help="Folder of class folders, parquet file or folder, hf:owner/name, digits:train")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings")]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="table.key=value, any setting of the TOML; repeatable")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, talk on stderr")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors and the result")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...  [default: auto]")]
Arch = Annotated[
    str | None, typer.Option(help="Of an original .pt: DiT-XL/2, or any of DiT-{S,B,L,XL}/{2,4,8}", show_default=False)
]
Split = Annotated[str | None, typer.Option(help="Which split of DATA, where it has several")]
Subset = Annotated[str | None, typer.Option(help="A named ImageNet subset, e.g. imagenette")]
Prompt = Annotated[
    str | None, typer.Option(help="For a text backbone; {name} is the class  [default: a photo of a {name}]")
]
ReferenceCache = Annotated[
    str | None, typer.Option(help="Keep real images' features here for the next IPC, strength or seed")
]
Trace = Annotated[list[str] | None, typer.Option(help="CLASS:INDEX: also keep how this image came about; repeatable")]
