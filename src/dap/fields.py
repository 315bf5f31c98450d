"""Mappings from files and command lines -> frozen dataclasses, with every key and type checked; and back to records."""

from __future__ import annotations

import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from dap.errors import ConfigError, unknown

T = TypeVar("T")


def require(ok: bool, message: str) -> None:
    """Raise ConfigError(message) unless `ok`."""
    if not ok:
        raise ConfigError(message)


def read_toml(path: str | Path | None) -> dict[str, Any]:
    """The tables of a TOML file, {} for None. Raises: ConfigError when it is missing or malformed."""
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not valid TOML: {error}") from None


def parse_overrides(overrides: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`table.key=value` lines as tables; a value is TOML, or else a bare word. Raises: ConfigError."""
    out: dict[str, dict[str, Any]] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        table, dot, name = key.strip().partition(".")
        require(
            bool(equals and dot and table and name),
            f"--set {text!r}: write it as table.key=value, e.g. guidance.strength=0.2",
        )
        try:
            parsed = tomllib.loads(f"v = {value.strip()}")["v"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()  # a bare word is a string: --set guidance.kernel=rbf
        out.setdefault(table, {})[name] = parsed
    return out


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """One settings dataclass from a mapping; unknown keys and wrong types raise ConfigError naming `where`.key."""
    hints = typing.get_type_hints(kind)
    for key in values:
        require(key in hints, unknown(f"key in [{where}]", key, hints))
    return kind(**{key: _fit(value, hints[key], f"{where}.{key}") for key, value in values.items()})


def digest(record: Any) -> str:
    """A short name of any JSON-like record: blake2b of its canonical text, 16 hexadecimal digits."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def as_record(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain dicts and lists, fit for JSON."""
    return asdict(settings)


def _fit(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the type that `hint` says (int for float and list for tuple allowed)."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return _fit(value, option, where)
            except ConfigError:
                continue
    elif origin is tuple and isinstance(value, list | tuple) and (args[-1] is ... or len(args) == len(value)):
        kinds = [args[0]] * len(value) if args[-1] is ... else args
        return tuple(_fit(v, kind, where) for v, kind in zip(value, kinds, strict=True))
    elif hint is Any or (origin is not None and isinstance(value, Mapping)):
        return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is type(None) and value is None:
        return None
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where} is {value!r}; it must be {_said(hint)}")


def _said(hint: Any) -> str:
    """A type in words: `str or a list of float`."""
    origin, args = typing.get_origin(hint), [a for a in typing.get_args(hint) if a not in (type(None), ...)]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_said(a) for a in args)
    if origin is tuple:
        count = "" if ... in typing.get_args(hint) else f"{len(args)} "
        return f"a list of {count}{' and '.join(dict.fromkeys(_said(a) for a in args))}"
    return getattr(hint, "__name__", str(hint))
