"""`dap convert`: an original DiT checkpoint as a diffusers pipeline directory."""

from __future__ import annotations

import os
import shutil
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from dap.backbones import directory_of
from dap.backbones.checkpoint import read_state
from dap.backbones.dit import check_channels
from dap.backbones.original_dit import CFG_SCALE, SCHEDULE, class_names, to_diffusers
from dap.backbones.parts import load_vae
from dap.disk import refusals
from dap.errors import StoreError
from dap.terminal import Talk
from dap.train.model import save_pipeline

WARNING = (
    "note: the weights are exact, but plain diffusers computes another time embedding than the original (eps then "
    "differs by several per cent); dap reads time_embedding from dap.json and computes the original's"
)


def run_convert(checkpoint: Path, arch: str | None, out: Path, vae: str | None, talk: Talk) -> dict[str, Any]:
    """Converts, and returns {"out", "arch", "state", "classes", "latent_shape", "time_embedding", "vae"}.

    Raises: StoreError when `out` holds something, BackboneError for what is no checkpoint of that architecture.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} exists already; choose another --out")
    vae_at = None if vae is None else directory_of(vae)
    state, found = read_state(checkpoint)
    model = to_diffusers(state, arch, str(checkpoint))
    names = class_names(checkpoint, int(model.config.num_embeds_ada_norm))
    talk.say(f"{checkpoint}: {arch}, {len(names)} classes, weights from {'the ' + found if found == 'file' else found}")
    with checkpoint.open("rb") as file:
        origin = {"file": checkpoint.name, "sha256": file_digest(file, "sha256").hexdigest(), "state": found}
    record = {"cfg_scale": CFG_SCALE, "converted": {"arch": arch, **origin}}
    if vae_at is not None:
        check_channels(str(checkpoint), int(model.config.in_channels), load_vae(vae_at)[0])
    partial = out.absolute().with_name(f".dap-{uuid4().hex}.tmp")
    with refusals(out):
        try:
            save_pipeline(partial, model, names, record=record, vae=vae_at, scheduler=SCHEDULE)
            _put(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    talk.say(WARNING)
    if vae_at is None:
        talk.say("note: without a VAE; name one when you use it: --vae DIR, in diffusers from_pretrained(..., vae=vae)")
    size = int(model.config.sample_size)
    return {
        "out": str(out),
        "arch": arch,
        "state": found,
        "classes": len(names),
        "latent_shape": [int(model.config.in_channels), size, size],
        "time_embedding": "original",
        "vae": vae_at is not None,
    }


def _put(partial: Path, out: Path) -> None:
    """Moves what was made to `out`; an empty directory is filled and not replaced: a shell may stand in it."""
    if not out.exists():
        os.replace(partial, out)
        return
    for path in sorted(partial.iterdir(), key=lambda path: path.name == "model_index.json"):  # last: then it is whole
        os.replace(path, out / path.name)
