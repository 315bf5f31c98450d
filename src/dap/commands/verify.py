"""`dap verify`: every file against what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dap.errors import StoreError
from dap.store import Store


def run_verify(directory: Path) -> dict[str, Any]:
    """{"ok", "images", "problems"}; a damaged config.json or plan.json is a problem, no dataset at all is an error."""
    try:
        store = Store.open(directory)
    except StoreError as error:
        if not (directory / "config.json").exists():
            raise
        return {"ok": False, "images": 0, "problems": [str(error)]}
    problems = store.verify()
    return {"ok": not problems, "images": store.images, "problems": problems}
