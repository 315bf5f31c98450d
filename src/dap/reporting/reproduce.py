"""The command that makes a set, or one image of it, again: from the recorded configuration, defaults left out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from dap.config import BackboneConfig, Config, DataConfig, RunConfig, SamplingConfig
from dap.guidance import PRESETS, Representativeness
from dap.store import Store

_OWN_FLAGS = {"data": ("source", "split", "subset", "class_map", "on_bad_image"), "backbone": ("name", "arch", "vae")}
_NOT_PIXELS = {"backbone": ("device", "compile"), "run": ("ipc", "seed", "chunk", "reference_cache")}
SMALL = 64  # px: what hard-small is meant for, and hard-tiny takes a first look at
_ONCE: dict[str, Any] = {"start": 1.0, "reference_herded": None}  # of sets made before there were these options
_TABLES: dict[str, Any] = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "sampling": SamplingConfig,
    "run": RunConfig,
}


def distill_words(config: Mapping[str, Any], out: str) -> list[str]:
    """`dap distill DATA ... --out OUT` with every setting that determines the pixels and is not the default."""
    tables = {name: dict(config.get(name) or {}) for name in (*_TABLES, "guidance")}
    data, backbone, run = tables["data"], tables["backbone"], tables["run"]
    words = ["dap", "distill", str(data.get("source"))]
    for flag in ("split", "subset", "class_map"):
        words += [f"--{flag.replace('_', '-')}", str(data[flag])] if data.get(flag) else []
    words += ["--on-bad-image", str(data["on_bad_image"])] if data.get("on_bad_image", "fail") != "fail" else []
    words += ["--backbone", str(backbone.get("name"))]
    for flag in ("arch", "vae"):
        words += [f"--{flag}", str(backbone[flag])] if backbone.get(flag) else []
    words += ["--ipc", str(run.get("ipc")), "--seed", str(run.get("seed", 0))]
    words += _guidance(tables["guidance"])
    for name, kind in _TABLES.items():
        left_out = {*_OWN_FLAGS.get(name, ()), *_NOT_PIXELS.get(name, ())}
        defaults = {f.name: f.default for f in fields(kind)}
        for key, value in tables[name].items():
            if key in defaults.keys() - left_out and value is not None and value != defaults[key]:
                words += _set(f"{name}.{key}", value)
    return [*words, "--out", out]


def how_words(config: Config) -> list[str]:
    """The flags of a distillation that do not determine its pixels, as they were given."""
    backbone, run = config.backbone, config.run
    device = ["--device", backbone.device] if backbone.device != BackboneConfig.device else []
    cache = ["--reference-cache", run.reference_cache] if run.reference_cache else []
    return [*device, *cache, *(["--compile"] if backbone.compile else [])]


def evaluate_words(outs: Sequence[str], stores: Sequence[Store], test: str) -> list[str]:
    """`dap evaluate` of these sets beside as many random real images, where each class has so many."""
    enough = True
    for store in stores:
        ipc = len({unit.index for chunk in store.chunks for unit in chunk.units})
        enough &= min((store.config.get("real_images") or {}).get("counts") or [ipc]) >= ipc
    random = ["--baseline", "random"] if enough else []
    return ["dap", "evaluate", *outs, "--test", test, *random, *first_look(stores[0].path)]


def first_look(out: Path) -> list[str]:
    """The flags with which `dap evaluate` judges a set of small images in seconds; none for larger images."""
    file = next((out / "data").rglob("*.png"), None)
    if file is None:
        return []
    with Image.open(file) as image:
        return ["--protocol", "hard-tiny"] if max(image.size) <= SMALL else []


def only(class_name: str) -> tuple[str, str]:
    """`--only CLASS:INDEX` for a shell, as what stands before and behind the index."""
    quoted = shlex.quote(f"{class_name}:7")
    before, _, after = quoted.rpartition("7")
    return f"--only {before}", after


def join(words: list[str]) -> str:
    """Words as one line for a shell."""
    return shlex.join(words)


def _guidance(table: Mapping[str, Any]) -> list[str]:
    """Its name, and the options that the preset does not already say."""
    preset = table.get("preset")
    if table.get("name") == "none" or preset in (None, "none"):
        return ["--guidance", "none"]
    options, known = {key: value for key, value in table.items() if key not in ("preset", "name")}, dict[str, Any]()
    if preset in PRESETS:
        options = {**_ONCE, **options}
        known = {**{f.name: f.default for f in fields(Representativeness)}, **PRESETS[preset]}
    changed = {key: value for key, value in options.items() if _plain(known.get(key)) != _plain(value)}
    told = {key: value for key, value in changed.items() if value is not None}
    if known.get("reference_herded") is not None and options["reference_herded"] is None:
        told["reference_size"] = options.get("reference_size") or "all"  # naming it is what switches herding off
    if "interval" in told and preset in PRESETS:
        told["start"] = options["start"]  # else an early interval would decide it
    sets = (_set(f"guidance.{key}", value) for key, value in told.items())
    return ["--guidance", str(preset), *chain.from_iterable(sets)]


def _set(key: str, value: Any) -> list[str]:
    return ["--set", f"{key}={_toml(value)}"]


def _toml(value: Any) -> str:
    """A value as `--set` reads it: bare words stay bare, JSON and TOML agree on the rest."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.:/-]*", value) and value not in ("true", "false", "inf"):
        return value
    return json.dumps(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
