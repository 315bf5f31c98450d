"""OUT/training/config.json: which training a directory belongs to; another one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dap.backbones.json_files import read_json
from dap.config import digest
from dap.disk import sweep, write_json
from dap.errors import StoreError
from dap.seal import differences

_MAY_CHANGE = ("save_every", "sample_every")  # of [train]: when to look and to save, not what comes out


def claim(out: Path, what: Mapping[str, Any]) -> Path:
    """OUT/training for exactly this job; refuses a directory of another job or with something else in it."""
    work = out / "training"
    record = work / "config.json"
    if record.exists():
        there = read_json(record)
        if _deciding(there) != _deciding(what):
            raise StoreError(
                f"{out} holds another training ({_differing(there, what)}); choose another --out, or the same settings"
                + (f"; --from {out} and another --out train on" if (out / "model_index.json").exists() else "")
            )
        return work
    try:
        if out.exists() and (not out.is_dir() or any(p.name != "training" for p in out.iterdir())):
            raise StoreError(f"{out} exists and is not an unfinished training; choose another --out")
        work.mkdir(parents=True, exist_ok=True)
        sweep(work)
        write_json(record, {**what, "digest": digest(what)})
    except OSError as error:
        raise StoreError(f"cannot write to {out}: {error.strerror}; choose another --out") from None
    return work


def _deciding(what: Mapping[str, Any]) -> dict[str, Any]:
    """What of a training's record decides its weights, as it comes back from JSON."""
    config = {key: value for key, value in dict(what.get("train") or {}).items() if key not in _MAY_CHANGE}
    record: dict[str, Any] = json.loads(json.dumps({**what, "train": config}))
    record.pop("digest", None)
    return record


def _differing(there: Mapping[str, Any], what: Mapping[str, Any]) -> str:
    """Both values of what differs; of the images, that they do."""
    old, new = ({k: v for k, v in _deciding(one).items() if k != "data"} for one in (there, what))
    other = [differences(old, new)] if old != new else []
    return "; ".join(other + ["other images"] * (there.get("data") != what["data"]))
