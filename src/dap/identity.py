"""What makes a distilled set the one it is: `config.json`, and the digest of all that determines its pixels."""

from __future__ import annotations

from typing import Any

from dap.backbones import Backbone
from dap.config import Config, as_record, digest
from dap.data import Source
from dap.guidance import Guidance
from dap.record import versions
from dap.reference import FORMAT


def identity(
    config: Config, source: Source, backbone: Backbone, guidance: Guidance | None, classes: tuple[int, ...]
) -> dict[str, Any]:
    """config.json: what determines the pixels (and the digest of that), and what else is worth knowing.

    Device, compilation, versions, paths and chunk size do not determine them; IPC does only when images of a class are
    coupled.
    """
    run: dict[str, Any] = {"seed": config.run.seed, "micro_batch": config.run.micro_batch}
    if guidance is not None and guidance.couples:
        run["ipc"] = config.run.ipc
    used = {} if guidance is None else {"used": list(source.counts), "skipped": list(source.skipped)}
    kind = type(guidance)
    name = "none" if guidance is None else f"{kind.__module__}:{kind.__qualname__}"
    chosen = {"name": name, **({} if guidance is None else as_record(guidance))}
    determines = {
        "data": {
            "class_names": list(source.class_names),
            "images": None if guidance is None else source.digest,
            **({} if guidance is None else {"features": FORMAT}),  # their noise too: no set mixes two recipes
        },
        "backbone": {"weights": backbone.weights_digest(), "classes": list(classes), **_settings(config, backbone)},
        "sampling": {name: value for name, value in as_record(config.sampling).items() if value is not None},
        "guidance": chosen,
        "run": run,
    }
    resolved = {name: as_record(getattr(config, name)) for name in ("data", "backbone", "sampling", "run")}
    if (embedding := getattr(backbone, "time_embedding", None)) is not None:  # the weights' digest covers it
        resolved["backbone"]["time_embedding"] = embedding
    return {
        "digest": digest(determines),
        "determines": determines,
        "config": {**resolved, "guidance": {"preset": config.guidance.name, **chosen}},
        "class_names": list(source.class_names),
        "real_images": used,
        "versions": versions(),
    }


def _settings(config: Config, backbone: Backbone) -> dict[str, Any]:
    """What `[backbone]` says that determines the pixels; of a text backbone, what it is told."""
    names, prompts = ("cfg_scale", "cfg_channels", "dtype", "vae_tiling"), getattr(backbone, "prompts", None)
    told = {} if prompts is None else {"prompts": prompts.record()}
    return {**{name: getattr(config.backbone, name) for name in names}, **told}
