"""What a source's files hold: looked at in threads, always told in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TypeVar

from dap.data.decode import decode
from dap.errors import DataError

T = TypeVar("T")

PART = 16  # keys at a time: to hand a small image over costs more than to decode it


def inspect(read_bytes: Callable[[int, str], bytes], mode: str, label: int, key: str) -> tuple[bytes, str]:
    """(digest of one file, the reason why it cannot be decoded or "")."""
    try:
        data = read_bytes(label, key)
        decode(data, mode)
    except (DataError, OSError) as error:
        return b"", reason_of(error)
    return hashed(data), ""


def each(work: Callable[[str], T], keys: Sequence[str]) -> Iterator[T]:
    """`work` of every key, in order; on threads when they are many, as decoding frees Python's lock."""
    workers = min(8, os.cpu_count() or 1)
    if workers == 1 or len(keys) < 32:
        yield from map(work, keys)
        return
    pool = ThreadPoolExecutor(workers)
    parts = [keys[start : start + PART] for start in range(0, len(keys), PART)]
    try:
        for done in pool.map(lambda part: [work(key) for key in part], parts):
            yield from done
    finally:
        pool.shutdown(cancel_futures=True)  # an error in the first image must not wait for the last


def hashed(*parts: str | bytes) -> bytes:
    """blake2b of the parts, 16 bytes; their lengths count, so ("ab", "c") is not ("a", "bc")."""
    state = blake2b(digest_size=16)
    for part in parts:
        # file names may hold bytes that are no UTF-8: Python keeps those as lone surrogates
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def reason_of(error: Exception) -> str:
    """An error's text without the path that Python adds to it."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
