"""`dap verify`: every file against what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dap.disk import AGAIN
from dap.errors import StoreError
from dap.reporting.reproduce import distill_words
from dap.seal import read_config
from dap.store import Store


def run_verify(directory: Path) -> dict[str, Any]:
    """{"ok", "images", "problems"}; a damaged config.json or plan.json is a problem, no dataset at all is an error."""
    directory = directory.expanduser()
    try:
        store = Store.open(directory)
    except StoreError as error:
        if not (directory / "config.json").exists():
            raise
        return {"ok": False, "images": 0, "problems": [str(error)]}
    problems = store.verify()
    return {"ok": not problems, "images": store.images, "problems": problems}


def mending(directory: Path, problems: Sequence[str]) -> list[str]:
    """The words of the `dap distill` that mends a set; none where that helps nothing, or config.json cannot say."""
    try:
        record = read_config(directory.expanduser())
    except StoreError:
        return []
    helps = record is not None and any(AGAIN in problem for problem in problems)
    return distill_words(record["config"], str(directory)) if helps and record is not None else []
