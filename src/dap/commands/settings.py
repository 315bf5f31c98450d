"""What was typed -> settings; imports nothing heavy."""

from __future__ import annotations

from dataclasses import fields
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
        key, equals, value = (part.strip() for part in override.partition("="))
        table, dot, _ = key.partition(".")
        known = ", ".join(READS[command])
        if equals and not dot:
            meant = " or ".join(f"{name}={value}" for name in _keys_like(key, command))
            hint = f"; did you mean {meant}?" if meant else f" with one of the tables {known}"
            raise ConfigError(f"--set {override}: write it as table.key=value{hint}")
        if equals and table not in READS[command]:
            raise ConfigError(f"--set {override}: dap {command} reads the tables {known}, not {table!r}")
    return load_config(path, overrides or (), **flags)


def _keys_like(key: str, command: str) -> list[str]:
    """The `table.key` of every table that a command reads and that has such a key, or the nearest to it."""
    from difflib import get_close_matches

    from dap.config import Config
    from dap.guidance import Representativeness

    tables = {table: {f.name for f in fields(getattr(Config(), table))} for table in READS[command]}
    if "guidance" in tables:
        tables["guidance"] = {"name", *(f.name for f in fields(Representativeness))}
    every = sorted({name for names in tables.values() for name in names})
    near = [key] if key in every else get_close_matches(key, every, n=1)
    return [f"{table}.{name}" for name in near for table, names in tables.items() if name in names]


def likely_test(data: str) -> str:
    """The likely test data of a training source, for the printed next command; TEST where a folder has none."""
    stem = data[:-5] if data.endswith("train") else f"{data}:"
    folder = Path(stem[:-1]).expanduser()
    splits = ("test", "val", "validation")
    there = [split for split in splits if not folder.is_dir() or any(folder.glob(f"{split}*"))]
    return f"{stem}{there[0]}" if there else "TEST"
