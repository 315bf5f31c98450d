"""Every error that `dap` raises on purpose.

    DapError
    |-- ConfigError     a setting is unknown, out of range or contradicts another
    |-- DataError       images, classes or labels are not what was said
    |-- StoreError      the output directory cannot be used, or does not hold what it says
    |-- BackboneError   a pipeline cannot be loaded, or lacks what is asked of it
    `-- SamplingError   numbers are no longer finite, in sampling or in training

Each message says what is wrong, the value, and what to type. The command line prints these, and only these, as one
line and exits with 1; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

LISTED = 40  # names in one message: as many as the taps of the largest usual models


class DapError(Exception):
    """Base of all errors that are the user's to mend."""


class ConfigError(DapError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(DapError, ValueError):
    """Images, classes or labels are not what was said."""


class StoreError(DapError, RuntimeError):
    """The output directory cannot be used, or does not hold what it says."""


class OtherSettingsError(StoreError):
    """The output directory holds a set of other settings: those of `config`, what its config.json holds."""

    def __init__(self, says: str, config: Mapping[str, Any]) -> None:
        super().__init__(says)
        self.config = config


class BackboneError(DapError, RuntimeError):
    """A pipeline cannot be loaded, or lacks what is asked of it."""


class SamplingError(DapError, RuntimeError):
    """Numbers are no longer finite, in sampling or in training."""


class DapWarning(UserWarning):
    """Something that is not as one may think, though nothing is wrong; the command line shows it as one line."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch has a class for that on a GPU, a plain RuntimeError on a CPU and on Apple's GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def unknown(kind: str, value: str, known: Iterable[str]) -> str:
    """The line for a name that does not exist: the value, the nearest names, and all of them when they are few.

    >>> unknown("kernel", "lineer", ["linear", "rbf"])
    "unknown kernel 'lineer'; did you mean 'linear'? Known: linear, rbf"
    """
    names = sorted(known, key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)])
    near = get_close_matches(value, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else "."
    listed = ", ".join(names[:LISTED]) + (f", ... ({len(names)} in all)" if len(names) > LISTED else "")
    return f"unknown {kind} {value!r}{hint} Known: {listed}"
