"""Guidances by name: presets of options, or any class by its import path."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from importlib import import_module
from typing import Any, cast

from dap.config import GuidanceConfig, as_record, build, digest
from dap.errors import ConfigError, unknown
from dap.guidance.base import Guidance, Shift, acts
from dap.guidance.options import START
from dap.guidance.representativeness import Representativeness

__all__ = ["PRESETS", "Guidance", "Representativeness", "Shift", "acts", "load_guidance"]

PRESETS: dict[str, dict[str, Any]] = {
    # the recommended settings, for every IPC; how each was chosen: docs/guidance.md
    "dap": {
        "strength": "auto",
        "beyond": 4.0,
        "repulsion": "auto",
        "contrast": 0.8,
        "reference": "cluster",
        "reference_size": 96,
        "reference_herded": 24,
        "interval": (0.5, 1.0),
        "start": "auto",
    },
    # Algorithm 1 as published, all real images at every step
    "dap-paper": {"gamma": 1.0, "repulsion": 0.0, "power": 1, "reference_spacing": 0.0},
}

# an option that is named -> the one of a preset that it replaces
REPLACES = (("gamma", "strength"), ("strength", "gamma"), ("reference_size", "reference_herded"))


def load_guidance(config: GuidanceConfig) -> Guidance | None:
    """The guidance that the table `[guidance]` describes; None for `none`.

    Options override the preset's; naming `gamma` replaces a preset's `strength` and the other way round, naming
    `reference_size` its `reference_herded`; an `interval` that begins before its `start` takes all steps, a later one
    the second half.
    Raises: ConfigError for an unknown name or option, with the nearest one.
    """
    name, options = config.name, dict(config.options)
    if name == "none":
        if options:
            raise ConfigError(f"guidance 'none' has no options, got {', '.join(sorted(options))}; name a guidance")
        return None
    if name in PRESETS:
        return _of_preset(name, options)
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(unknown("guidance", name, ["none", *PRESETS]) + "; or an import path package.module:Class")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"guidance {name!r} cannot be imported: {error}") from None
    if not isinstance(kind, type):
        raise ConfigError(f"guidance {name!r} is a {type(kind).__name__}, not a class; see dap.guidance.base")
    if not is_dataclass(kind):
        raise ConfigError(
            f"guidance {name!r} is not a dataclass; decorate it with @dataclass(frozen=True, kw_only=True)"
        )
    try:
        guidance = cast(Guidance, build(kind, options, "guidance"))
        digest(as_record(guidance))
    except TypeError as error:
        raise ConfigError(f"guidance {name!r} cannot be made with these options: {error}") from None
    return guidance


def _of_preset(name: str, options: dict[str, Any]) -> Guidance:
    """A preset, with the options that replace its own."""
    preset = dict(PRESETS[name])
    for one, other in REPLACES:
        if one in options:
            preset.pop(other, None)
    start = preset.pop("start", 1.0)
    earliest = 1 - (START if start == "auto" else start)
    chosen = build(Representativeness, {**preset, **options}, "guidance")
    if "start" in options or chosen.interval[0] < earliest:
        return chosen
    return replace(chosen, start=1 - earliest if "interval" in options else start)
