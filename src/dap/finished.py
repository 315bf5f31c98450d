"""A finished distilled dataset, found where a user points."""

from __future__ import annotations

from pathlib import Path

from dap.errors import DataError
from dap.seal import no_set, sets_below
from dap.store import Store


def finished_at(path: Path) -> Store | None:
    """The distilled dataset whose directory, or whose data folder, is `path`; None where there is none.

    Raises: DataError when it is unfinished or damaged, or only holds others; StoreError when it cannot be read.
    """
    for base in (path, path.parent if path.name == "data" else path):
        if (base / "plan.json").is_file():
            store = Store.open(base)
            if missing := store.missing():
                raise DataError(
                    f"{str(base)!r} is unfinished or damaged ({len(missing)} of {len(store.chunks)} chunks missing);"
                    f" dap verify {base} says where, the same dap distill again mends it"
                )
            return store
    if sets_below(path):
        raise DataError(no_set(path))
    return None
