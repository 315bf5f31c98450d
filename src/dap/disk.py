"""Files that appear whole or not at all, and one line for what the system refuses.

Every writer of `dap` goes through here: a temporary name in the same folder, flushed to the disk, then renamed. What a
killed process leaves is named `.dap-*.tmp`, hidden from readers of images, and swept when its directory is used again.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from dap.errors import StoreError

TEMPORARY = re.compile(r"\.dap-[0-9a-f]{32}\.tmp")
AGAIN = "run the same command again"


@contextmanager
def refusals(path: Path, needed: Callable[[], float] = lambda: 1e6, option: str = "--out") -> Iterator[None]:
    """Turn what the system refuses into one line.

    needed  how many bytes there are still to write          option  what names `path` on the command line
    """
    try:
        yield
    except SafetensorError as error:  # safetensors' own word for what the system refuses
        raise StoreError(f"cannot write below {path} ({error}): make room, and {AGAIN}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            megabytes = max(1, math.ceil(needed() / 1e6))
            raise StoreError(f"the disk is full at {path}: free {megabytes} MB and {AGAIN}") from error
        where, why = error.filename or path, error.strerror or str(error)
        raise StoreError(f"cannot use {where} ({why}): allow it, or choose another {option}") from error


def write_whole(path: Path, data: bytes) -> None:
    """`data` under the name `path`, all or nothing, on the platter before the name."""
    for attempts_left in range(4, -1, -1):
        temporary = path.with_name(f".dap-{uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            return
        except FileNotFoundError:
            if not attempts_left:  # else another process that started just now has swept our temporary file
                raise
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Names just written into `folder` survive a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(*folders: Path, idle: float = 0) -> None:
    """Removes what killed processes left in these folders, and nothing else.

    idle  only what nobody has written to for so many seconds: where other processes may be at work
    """
    for folder in folders:
        for left_over in folder.glob(".dap-*.tmp"):
            if TEMPORARY.fullmatch(left_over.name):
                with suppress(OSError):
                    if not idle or time.time() - left_over.stat().st_mtime > idle:
                        left_over.unlink()


def changed(path: Path, expected: str) -> str:
    """ "" when the file has this sha256, else what is wrong with it."""
    try:
        return "" if sha256(path.read_bytes()).hexdigest() == expected else "has changed"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """A JSON file for people to read, whole or not at all. Raises: ValueError for NaN."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, text.encode())
