"""JSON files that notice a single changed byte, and config.json, the one that says which dataset a directory holds."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from dap._version import __version__
from dap.card import folder_names
from dap.config import digest
from dap.disk import TEMPORARY, refusals
from dap.errors import OtherSettingsError, StoreError


def sealed(record: Mapping[str, Any], indent: int | None = None) -> bytes:
    """A record as JSON whose last key, "check", is a digest of the rest. Raises ValueError for NaN."""
    body = {key: value for key, value in record.items() if key != "check"}
    return (json.dumps({**body, "check": digest(body)}, indent=indent, allow_nan=False) + "\n").encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """The record that `sealed` turned into `data`; ValueError if one byte is another."""
    try:
        record = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # the bytes themselves, because JSON reads the same with another space or 1.0 as 1.00
    if not isinstance(record, dict) or data not in (sealed(record), sealed(record, indent=2)):
        raise ValueError("its check does not match")
    del record["check"]
    return record


def differences(there: Mapping[str, Any], asked: Mapping[str, Any], most: int = 5) -> str:
    """Where nested records differ: "guidance.strength: 0.3 there, 0.1 asked; ...", at most `most` keys."""
    old, new = _flat(there), _flat(asked)
    keys = [key for key in {**old, **new} if old.get(key, "nothing") != new.get(key, "nothing")]
    keys.sort(
        key=lambda key: not key.startswith("run.")
    )  # first what others may follow from, as the repulsion from IPC
    lines = [f"{key}: {old.get(key, 'nothing')} there, {new.get(key, 'nothing')} asked" for key in keys[:most]]
    return "; ".join(lines + [f"and {len(keys) - most} more"] * (len(keys) > most))


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value)
    return {k: v if len(v) <= 60 else f"{v[:40]}... (check {digest(v)})" for k, v in flat.items()}


def earlier_config(path: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config.json of an earlier run with the same settings, None for a new or empty directory."""
    config = read_config(path)
    if config is None:
        with refusals(path):
            if path.exists() and not path.is_dir():
                raise StoreError(f"{path} is a file: choose another --out")
            if path.is_dir() and any(not TEMPORARY.fullmatch(p.name) for p in path.iterdir()):
                raise StoreError(f"{path} is no dataset of dap ({found_in(path)}): choose a new or empty --out")
        return None
    asked = json.loads(json.dumps(dict(record)))  # as it would come back: lists for tuples
    if any(config[name] != asked[name] for name in ("digest", "class_names")):
        what = _presets(config, asked) or differences(config["determines"], asked["determines"])
        there, here = ({key: r[key] for key in ("class_names", "digest")} for r in (config, asked))
        what = what or differences(there, here)
        says = f"{path} was made with other settings ({what}): choose another --out, or the same settings"
        raise OtherSettingsError(says, config)
    return config


def _presets(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Two guidances by their names, where these differ: of their options there would be a dozen to name."""
    old, new = (one.get("config", {}).get("guidance", {}).get("preset") for one in (there, asked))
    return "" if old == new else f"--guidance {old} there, {new} asked"


def fresh_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a new directory's config.json holds."""
    folders = dict(zip(folder_names(record["class_names"]), record["class_names"], strict=True))
    made = {"format": 1, "dap": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    fresh: dict[str, Any] = json.loads(json.dumps({**made, **record, "folders": folders}))
    return fresh


def read_config(path: Path) -> dict[str, Any] | None:
    """config.json of a directory, None when it has none. Raises: StoreError when it is damaged or strange."""
    with refusals(path):  # a directory that one may not look into
        if not (path / "config.json").exists():
            return None
    remedy = "restore it, or choose another --out"
    config = read_sealed(path / "config.json", remedy)
    names, folders = config.get("class_names"), config.get("folders")
    tables = all(isinstance(config.get(key), dict) for key in ("config", "determines", "folders"))
    if not (tables and isinstance(folders, dict) and list(folders.values()) == names and config.get("format") == 1):
        raise StoreError(f"{path / 'config.json'} was not written by this version of dap: {remedy}")
    if any(re.search(r"[/\\]", name) or name in ("", ".", "..") for name in folders):
        raise StoreError(f"{path / 'config.json'} names a folder outside data/: {remedy}")
    return config


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """The record in a sealed file. Raises: StoreError with the `remedy` when it is damaged."""
    try:
        return unsealed(path.read_bytes())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError:
        raise StoreError(f"{path} is damaged, or was edited: {remedy}") from None


def no_set(path: Path) -> str:
    """What to say of a directory that holds no distilled dataset itself: the sets below it, or how to make one."""
    if below := sets_below(path):
        named = " ".join(shlex.quote(str(p)) for p in below[:8]) + (" ..." if len(below) > 8 else "")
        sets, them = ("1 distilled set", "it") if len(below) == 1 else (f"{len(below)} distilled sets", "them")
        return f"{path} holds {sets} and is no distilled dataset itself: name {them}: {named}"
    return f"{path} is no distilled dataset ({found_in(path)}): make one with dap distill --out {path}"


def sets_below(path: Path) -> list[Path]:
    """The distilled datasets one or two levels below `path`; of folders with very many entries, among the first."""
    found: list[Path] = []
    for folder in _folders(path):
        here = [folder] if (folder / "plan.json").is_file() else _folders(folder)
        found += [p for p in here if (p / "plan.json").is_file() and (p / "config.json").is_file()]
    return found


def _folders(path: Path, most: int = 200) -> list[Path]:
    try:
        with os.scandir(path) as entries:  # a class of a large dataset has thousands of files, and no folders
            return sorted(path / e.name for e in islice(entries, most) if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def found_in(path: Path) -> str:
    """What lies in `path`, for messages."""
    if not path.is_dir():
        return "a file" if path.exists() else "no such directory"
    with refusals(path):
        names = sorted(p.name for p in path.iterdir())
    found = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"found {found}, no config.json" if names else "an empty directory"
