"""What was typed -> settings; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def given(**flags: Any) -> dict[str, Any]:
    """The flags that were typed; the others leave the TOML file and `--set` alone."""
    return {name: value for name, value in flags.items() if value is not None}


READS = {  # the tables of each command; a file may hold more, for other commands, `--set` may not
    "train": ("data", "backbone", "train"),
    "distill": ("data", "backbone", "sampling", "guidance", "run"),
    "evaluate": ("evaluation", "backbone"),
    "measure": ("metrics", "backbone"),
    "teacher": ("data", "evaluation", "backbone"),
}


def settings_of(path: Path | None, overrides: list[str] | None, flags: dict[str, dict[str, Any]], command: str) -> Any:
    """The `Config` of a command: a TOML file, `--set`, then the flags. ConfigError for a table it does not read."""
    from dap.config import load_config
    from dap.errors import ConfigError

    for override in overrides or ():
        table = override.partition(".")[0].strip()
        if "=" in override and table not in READS[command]:
            known = ", ".join(READS[command])
            raise ConfigError(f"--set {override}: dap {command} reads the tables {known}, not {table!r}")
    return load_config(path, overrides or (), **flags)


def likely_test(data: str) -> str:
    """The likely test data of a training source, for the printed next command."""
    return f"{data[:-5]}test" if data.endswith("train") else f"{data}:test"
