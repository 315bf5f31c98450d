"""The protocols: all in one table, and a user's own from a TOML file of the same fields.

The hard-label families come from the evaluation code that the field's papers share: `hard-sgd` that of
Minimax, MGD3 and VLCP, `hard-adamw` that of IGD, whose plain-diffusion baselines the DAP paper quotes. Their
cells do not mix. `soft-rded` is the evaluation of Sun et al. 2024, `soft-fkd` that of SRe2L (Yin et al. 2023).
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

from dap.errors import ConfigError, unknown
from dap.evaluation.protocol import IMAGENET, Protocol
from dap.evaluation.schedule import Plan
from dap.fields import build, read_toml, require

__all__ = ["PROTOCOLS", "Plan", "Protocol", "get_protocol", "read_protocol"]

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# (largest IPC, epochs); above the last row `full_epochs`
EPOCHS_BY_IPC = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))

_HARD_ADAMW = Protocol(
    name="hard-adamw",
    summary="hard labels at 224 px, AdamW, CutMix: IGD, and the baselines in DAP's Table 3",
    network="resnetap-10",
    optimiser="adamw",
    rate=1e-3,
    weight_decay=0.01,
    schedule="multistep",
    epochs=EPOCHS_BY_IPC,
    full_epochs=300,
    two_thirds_at=100,
    many_classes=(("batch", 128),),
    size=224,
    crop=(0.5, 1.0),
    flip=True,
    jitter=0.4,
    lighting=0.1,
    cutmix=True,
)
_HARD_SGD = replace(
    _HARD_ADAMW,
    name="hard-sgd",
    summary="hard labels at 224 px, SGD, CutMix: Minimax, MGD3, VLCP, ManifoldGD",
    optimiser="sgd",
    rate=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    many_classes=(("batch", 128), ("rate", 0.1), ("weight_decay", 1e-4)),
)
_HARD_SMALL = replace(
    _HARD_ADAMW,
    name="hard-small",
    summary="hard-adamw at the images' own size (64 px and below), without lighting",
    network="convnet-3",
    size=None,
    lighting=0.0,
)
_HARD_TINY = Protocol(
    name="hard-tiny",
    summary="a quick look, and images of 16 px and below: 300 steps of SGD, no CutMix",
    network="convnet-2w64",
    optimiser="sgd",
    rate=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    steps=300,
    full_steps=1500,
    shift=1,
    normalise=HALF,
    evaluations=10,
)
_SOFT_RDED = Protocol(
    name="soft-rded",
    summary="a teacher's labels of every mixed image at 224 px: the ImageNet-1K tables",
    network="torchvision:resnet18",
    labels="online",
    temperature=20.0,
    optimiser="adamw",
    rate=1e-3,
    rates=(("efficientnet", 2e-3), ("mobilenet", 2.5e-3), ("swin", 1e-4), ("vit", 1e-4)),
    weight_decay=0.01,
    decay_vectors=False,
    schedule="half-cosine-by-epoch",
    full_epochs=300,
    batches=((1, 10), (10, 50), (50, 100)),
    doubles_from=100,
    size=224,
    test_crop=0.875,
    shuffle=2,
    crop=(0.5, 1.0),
    flip=True,
    cutmix=True,
    normalise=IMAGENET,
)
_SOFT_FKD = replace(
    _SOFT_RDED,
    name="soft-fkd",
    summary="a teacher's labels stored once, with crops and CutMix, at 224 px: SRe2L, D4M",
    labels="stored",
    rates=(),
    schedule="cosine-by-epoch",
    batch=1024,
    batches=(),
    doubles_from=0,
    shuffle=0,
    crop=(0.08, 1.0),
)

_ALL = (_HARD_TINY, _HARD_SMALL, _HARD_ADAMW, _HARD_SGD, _SOFT_RDED, _SOFT_FKD)
PROTOCOLS: dict[str, Protocol] = {p.name: p for p in _ALL}


def get_protocol(name: str, flip: bool | None = None) -> Protocol:
    """The protocol of that name, or of that TOML file; `flip` switches its mirroring on or off (None: as it says).

    Raises: ConfigError for an unknown name, with the nearest; as `read_protocol` for a file.
    """
    if name.endswith(".toml"):
        protocol = read_protocol(name)
    elif name in PROTOCOLS:
        protocol = PROTOCOLS[name]
    else:
        raise ConfigError(unknown("protocol", name, PROTOCOLS) + "; or a .toml file of your own")
    return protocol if flip is None else replace(protocol, flip=flip)


def read_protocol(path: str | Path) -> Protocol:
    """A user's own protocol: a TOML file of `Protocol`'s fields.

    `base = "hard-small"` takes what the file leaves out from that protocol; `name` is the file's own name where it
    is not given. `rates` and `many_classes` may be tables; `crop = false` is no crop, `size = false` the images' own.

    Raises: ConfigError for a missing or malformed file, an unknown field (with the nearest), a field that is missing,
    a value of the wrong type or out of range, and for the name of one of dap's own protocols.
    """
    path = Path(path).expanduser()
    values: dict[str, Any] = {
        key: [list(row) for row in value.items()] if isinstance(value, Mapping) else value
        for key, value in read_toml(path).items()
    }
    values.update({key: None for key in ("crop", "size") if values.get(key) is False})  # TOML has no null
    base = values.pop("base", None)
    require(base is None or base in PROTOCOLS, unknown(f"base in {path.name}:", str(base), PROTOCOLS))
    values = {"name": path.stem, "summary": f"own protocol, {path.name}", **values}
    whole = values if base is None else {**asdict(PROTOCOLS[base]), **values}
    known = typing.get_type_hints(Protocol)
    for key in values:
        require(key in known, unknown(f"key in {path.name}:", key, {*known, "base"}))
    lacking = [field.name for field in fields(Protocol) if field.default is MISSING and field.name not in whole]
    require(not lacking, f'{path.name} lacks {", ".join(lacking)}; add them, or base = "hard-small"')
    protocol = build(Protocol, whole, path.name)
    # it becomes a file's name, and a reader must not take it for the published one
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", protocol.name) is not None
    require(plain, f"the protocol's name {protocol.name!r} may hold letters, digits, '.', '_' and '-' only")
    require(protocol.name not in PROTOCOLS, f"{protocol.name!r} is dap's own protocol; give yours another name")
    return protocol
