"""Reading a checkpoint file: tensors alone, no pickled code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor

from dap.errors import BackboneError

State = dict[str, Tensor]
_SITE = "https://dl.fbaipublicfiles.com/DiT/models"
HEAD = 1 << 23  # bytes in which the keys of a checkpoint stand, before its tensors


def read_state(path: Path) -> tuple[State, str]:
    """The tensors of a checkpoint and where they were: "ema" when it has one, else "model", else the file itself.

    Raises: BackboneError when it is missing, damaged, or needs more than `weights_only` allows.
    """
    if not path.is_file():
        raise BackboneError(f"{path}: no such file; get DiT-XL-2-256x256.pt or -512x512.pt from {_SITE}/")
    _check_no_stable_diffusion(path)
    try:
        with torch.serialization.safe_globals([Namespace]):  # training checkpoints hold their arguments
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise BackboneError(
            f"cannot load {path}: {said[0][:160]}; dap reads weights only and runs no pickled code, fetch it again"
        ) from None
    found = next((key for key in ("ema", "model") if isinstance(content, Mapping) and key in content), "file")
    state = content if found == "file" else content[found]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path} holds no state dict of tensors; dap knows a plain one, or one under ema or model")
    return dict(state), found


def _check_no_stable_diffusion(path: Path) -> None:
    """Its single files hold a trainer's objects, which `weights_only` refuses: known by their keys, unread."""
    with path.open("rb") as file:
        if b"model.diffusion_model." not in file.read(HEAD):
            return
    raise BackboneError(
        f"{path} is a Stable Diffusion single file; give the diffusers directory or hub id of that model instead, e.g. "
        "--backbone stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
