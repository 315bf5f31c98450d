"""Original DiT checkpoints (`DiT-XL-2-256x256.pt` and what trains on from it) as diffusers transformers.

    original                                   diffusers
    x_embedder.proj                            pos_embed.proj
    t_embedder.mlp.0, .2                       transformer_blocks.N.norm1.emb.timestep_embedder.linear_1, _2   (every N)
    y_embedder.embedding_table                 transformer_blocks.N.norm1.emb.class_embedder.embedding_table   (every N)
    blocks.N.attn.qkv                          transformer_blocks.N.attn1.to_q, to_k, to_v     (thirds of the rows)
    blocks.N.attn.proj, mlp.fc1, mlp.fc2       transformer_blocks.N.attn1.to_out.0, ff.net.0.proj, ff.net.2
    blocks.N.adaLN_modulation.1                transformer_blocks.N.norm1.linear
    final_layer.adaLN_modulation.1, .linear    proj_out_1, proj_out_2
    pos_embed                                  computed, and compared

Both order the modulation as shift, scale, gate (attention, then MLP), and as shift, scale at the end; tokens and pixels
within run row by row. What differs is set here: the time embedding, and norm eps 1e-6.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dap.backbones.checkpoint import State, read_state
from dap.backbones.computing import Computing
from dap.backbones.dit import DiTBackbone, set_time_embedding
from dap.backbones.parts import load_vae
from dap.data.imagenet import imagenet_wnids, synset
from dap.errors import BackboneError, unknown

_BETAS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
SCHEDULE: dict[str, Any] = {**_BETAS, "clip_sample": False}
CFG_SCALE = 4.0
POS_EMBED_TOLERANCE = 2e-3  # a half-precision copy; any other order of tokens or channels is off by about 1


class Architecture(NamedTuple):
    """Blocks, width of a token, attention heads, and the side of a token in latents."""

    depth: int
    width: int
    heads: int
    patch: int


_SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
ARCHITECTURES = {
    f"DiT-{name}/{patch}": Architecture(*size, patch) for name, size in _SIZES.items() for patch in (2, 4, 8)
}

_EMBEDDERS = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
_ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}


def load_original(path: Path, arch: str | None, *, vae: Path | None, computing: Computing | None = None) -> DiTBackbone:
    """The backbone of an original checkpoint.

    Raises: BackboneError for a file that is missing, no DiT or of another architecture, for classes without names, and
    when its VAE is missing or has other channels.
    """
    transformer = to_diffusers(read_state(path)[0], arch, str(path))
    model, files = (None, ()) if vae is None else load_vae(vae)
    return DiTBackbone(
        transformer,
        SCHEDULE,
        class_names(path, int(transformer.config.num_embeds_ada_norm)),
        vae=model,
        name=str(path),
        cfg_scale=CFG_SCALE,
        computing=computing,
        files=[path, *files],
    )


def to_diffusers(state: State, arch: str | None, where: str) -> Any:
    """A DiTTransformer2DModel in float32 with the weights of an original state dict.

    arch   one of ARCHITECTURES; None is refused with the one that fits
    where  the file, for messages

    Raises: BackboneError that names every missing, unexpected or misshapen key.
    """
    shape = _architecture(state, arch, where)
    _check_keys(state, shape.depth, where)
    model = _empty_model(state, shape)
    _check_positions(state["pos_embed"], model.pos_embed.pos_embed, where)
    known = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    weights = {}
    for key, (original, value) in _renamed(state, shape.depth).items():
        if known[key] != tuple(value.shape):
            raise BackboneError(f"{where}: {original} gives {tuple(value.shape)} for {key}, {arch} has {known[key]}")
        weights[key] = value.to(torch.float32, copy=True)
    model.load_state_dict(weights, assign=True)
    set_time_embedding(model, "original", where)
    return model


def class_names(path: Path, classes: int) -> list[str]:
    """A `classes.txt` beside the file, one name a line; else ImageNet's 1,000 synset strings in wnid order."""
    listed = path.with_name("classes.txt")
    if listed.is_file():
        names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(names) != classes:
            raise BackboneError(f"{listed} names {len(names)} classes, the label table of {path} has {classes}")
        return names
    if classes != 1000:
        raise BackboneError(
            f"{path} has {classes} classes besides the null one, and no names: write them into {listed}, one a line"
        )
    return [synset(wnid) for wnid in imagenet_wnids()]


def _architecture(state: State, arch: str | None, where: str) -> Architecture:
    """The architecture that was named, when depth, width and patch of the file agree."""
    patch_weight = state.get("x_embedder.proj.weight")
    if patch_weight is None or patch_weight.dim() != 4:
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise BackboneError(f"{where} is no original DiT: it has no x_embedder.proj.weight; found {some}")
    depth = 1 + max((int(k.split(".")[1]) for k in state if re.match(r"blocks\.\d+\.", k)), default=-1)
    have = (depth, int(patch_weight.shape[0]), int(patch_weight.shape[-1]))
    fits = next((n for n, a in ARCHITECTURES.items() if (a.depth, a.width, a.patch) == have), None)
    hint = f"use --arch {fits}" if fits else "none of the published architectures is like that"
    if arch is None:
        raise BackboneError(
            f"{where} is an original DiT checkpoint, which needs its architecture: {hint} (dap convert, too)"
        )
    if arch not in ARCHITECTURES:
        raise BackboneError(unknown("arch", arch, ARCHITECTURES))
    asked = ARCHITECTURES[arch]
    for what, there, wanted in zip(
        ("blocks", "numbers a token", "latents a token's side"),
        have,
        (asked.depth, asked.width, asked.patch),
        strict=True,
    ):
        if there != wanted:
            raise BackboneError(f"{where} has {there} {what}, {arch} has {wanted}; {hint}")
    return asked


def _check_keys(state: State, depth: int, where: str) -> None:
    """Every key that is expected, and no other."""
    ends = [*_ENDS, *_EMBEDDERS, *(f"blocks.{n}.{part}" for n in range(depth) for part in ("attn.qkv", *_BLOCK))]
    expected = {f"{name}.{kind}" for name in ends for kind in ("weight", "bias")} | {"pos_embed"}
    expected -= {"y_embedder.embedding_table.bias"}
    missing, more = sorted(expected - set(state)), sorted(set(state) - expected)
    if diffit := [key for key in more if re.fullmatch(r"blocks\.\d+\.(attn\.)?gamma[12]", key)]:
        raise BackboneError(
            f"{where} has {len(diffit)} DiffFit scales ({diffit[0]}, ...), the factors that Minimax fine-tunes on the "
            "outputs of attention and MLP; dap knows plain DiTs: multiply them into attn.qkv, attn.proj and mlp.fc2, "
            "or use the checkpoint before fine-tuning"
        )
    problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unexpected {', '.join(more)}"] * bool(more)
    if problems:
        raise BackboneError(f"{where} {' and '.join(problems)}; it is no whole checkpoint of the original DiT")


def _empty_model(state: State, shape: Architecture) -> Any:
    """The diffusers model without weights: sizes that the architecture leaves open come from the tensors."""
    from accelerate import init_empty_weights
    from diffusers import DiTTransformer2DModel

    tokens = state["pos_embed"].numel() // shape.width
    with init_empty_weights():
        return DiTTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.width // shape.heads,
            in_channels=int(state["x_embedder.proj.weight"].shape[1]),
            out_channels=int(state["final_layer.linear.weight"].shape[0]) // shape.patch**2,
            num_layers=shape.depth,
            sample_size=round(tokens**0.5) * shape.patch,
            patch_size=shape.patch,
            num_embeds_ada_norm=int(state["y_embedder.embedding_table.weight"].shape[0]) - 1,
            norm_eps=1e-6,
        )


def _check_positions(there: Tensor, computed: Tensor, where: str) -> None:
    """The stored position embedding [1, tokens, width] is the sine-cosine one that diffusers computes."""
    if there.shape != computed.shape:
        raise BackboneError(
            f"{where}: pos_embed is {tuple(there.shape)}, not {tuple(computed.shape)} for square images"
        )
    if not (off := float((there.float() - computed).abs().max())) <= POS_EMBED_TOLERANCE:
        raise BackboneError(f"{where}: pos_embed differs by {off:.2g} from the sine-cosine table of the original DiT")


def _renamed(state: State, depth: int) -> dict[str, tuple[str, Tensor]]:
    """diffusers' key -> (the original key, its tensor or a third of it)."""
    out: dict[str, tuple[str, Tensor]] = {}

    def take(old: str, *new: str) -> None:
        for kind in ("weight", "bias"):
            if (value := state.get(f"{old}.{kind}")) is not None:
                for name, part in zip(new, value.chunk(len(new)), strict=True):
                    out[f"{name}.{kind}"] = (f"{old}.{kind}", part)

    for old, new in _ENDS.items():
        take(old, new)
    for n in range(depth):
        here, there = f"blocks.{n}", f"transformer_blocks.{n}"
        take(f"{here}.attn.qkv", *(f"{there}.attn1.to_{which}" for which in "qkv"))
        for old, new in _BLOCK.items():
            take(f"{here}.{old}", f"{there}.{new}")
        for old, new in _EMBEDDERS.items():
            take(old, f"{there}.norm1.emb.{new}")
    return out
