"""The JSON files of a pipeline directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dap.errors import BackboneError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a pipeline directory."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror}; is its directory a whole pipeline?") from None
    except ValueError:
        raise BackboneError(f"{path} is not valid JSON; the checkpoint is damaged") from None
    if not isinstance(record, dict):
        raise BackboneError(f"{path} does not hold a JSON object; the checkpoint is damaged")
    return record


def class_of(record: dict[str, Any]) -> str | None:
    """The class that a `model_index.json` or a part's `config.json` names; None when it names none."""
    kind = record.get("_class_name")
    return kind if isinstance(kind, str) else None
