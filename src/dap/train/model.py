"""A new DiT, a DiT with a new label table, and the pipeline directory that both are saved as."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import nn

from dap._version import __version__
from dap.backbones.dit import time_embedding
from dap.config import TrainConfig
from dap.disk import write_json
from dap.errors import ConfigError

LINEAR_BETAS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


def new_dit(config: TrainConfig, *, channels: int, size: int, classes: int) -> Any:
    """A DiTTransformer2DModel that predicts eps for x_t [B, channels, size, size], with the DiT paper's initialisation.

    diffusers leaves torch's own initialisation, under which a DiT trains far more slowly: the paper starts every block
    as the identity (adaLN-Zero) and the output at zero.
    """
    from diffusers import DiTTransformer2DModel

    patch = config.patch or default_patch(size)
    if size % patch:
        raise ConfigError(
            f"train.patch {patch} does not divide the side {size}; use a divisor, e.g. --set train.patch=1"
        )
    model = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=channels,
        num_layers=config.depth,
        sample_size=size,
        patch_size=patch,
        num_embeds_ada_norm=classes,
        norm_eps=1e-6,
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    projection = model.pos_embed.proj
    nn.init.xavier_uniform_(projection.weight.view(projection.weight.shape[0], -1))
    nn.init.zeros_(projection.bias)
    for block in model.transformer_blocks:
        embedder = block.norm1.emb
        nn.init.normal_(embedder.class_embedder.embedding_table.weight, std=0.02)
        nn.init.normal_(embedder.timestep_embedder.linear_1.weight, std=0.02)
        nn.init.normal_(embedder.timestep_embedder.linear_2.weight, std=0.02)
        nn.init.zeros_(block.norm1.linear.weight)
    for last in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(last.weight)
    return drop_labels_ourselves(model)


def default_patch(size: int) -> int:
    """The largest divisor of `size` that is at most size / 8: 64 tokens at 8, 16, 32 and 64 pixels."""
    return next(patch for patch in range(max(1, size // 8), 0, -1) if size % patch == 0)


def drop_labels_ourselves(model: Any) -> Any:
    """In train mode diffusers drops labels block by block, so no row is ever wholly unconditional: switch that off."""
    for block in model.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return model


def with_label_table(model: Any, old: Sequence[str], new: Sequence[str]) -> Any:
    """`model` for the classes `new`: rows of classes it knows by name are kept, others start at the mean row.

    The null row stays. Weights behind the label table are untouched, so fine-tuning starts from what they know.
    """
    if list(old) == list(new):
        return drop_labels_ourselves(model)
    for block in model.transformer_blocks:
        embedder = block.norm1.emb.class_embedder
        rows = embedder.embedding_table.weight.data
        known = dict(zip(old, rows, strict=False))
        mean = rows[: len(old)].mean(0)
        table = torch.stack([known.get(name, mean) for name in new] + [rows[len(old)]])
        embedder.embedding_table = nn.Embedding.from_pretrained(table.clone(), freeze=False)
        embedder.num_classes = len(new)
    model.register_to_config(num_embeds_ada_norm=len(new))
    return drop_labels_ourselves(model)


def save_pipeline(
    out: Path,
    model: Any,
    class_names: Sequence[str],
    *,
    record: Mapping[str, Any],
    vae: Path | None = None,
    scheduler: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a diffusers pipeline directory; `model_index.json` comes last: a half-written one is no pipeline.

    record     further keys of dap.json: cfg_scale, how it was trained
    scheduler  the schedule to keep when fine-tuning, None: linear betas, DDPM
    """
    from diffusers import DDPMScheduler

    out.mkdir(parents=True, exist_ok=True)
    weights_dtype = next(model.parameters()).dtype
    nn.Module.to(model, dtype)  # not ModelMixin.to, which warns of a cast that is meant
    model.save_pretrained(out / "transformer", safe_serialization=True)
    nn.Module.to(model, weights_dtype)
    settings = dict(scheduler) if scheduler else {**LINEAR_BETAS, "clip_sample": vae is None}
    DDPMScheduler.from_config(settings).save_pretrained(out / "scheduler")
    if vae is not None and not (out / "vae").exists():
        partial = out / f".dap-{uuid4().hex}.tmp"
        shutil.copytree(vae / "vae" if (vae / "vae").is_dir() else vae, partial)
        partial.rename(out / "vae")
    shown = {} if time_embedding(model) == "diffusers" else {"time_embedding": time_embedding(model)}  # in no weight
    write_json(out / "dap.json", {"dap": __version__, "class_names": list(class_names), **shown, **record})
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": _diffusers_version(),
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        "scheduler": ["diffusers", "DDPMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"] if vae is not None else [None, None],
    }
    write_json(out / "model_index.json", index)


def _diffusers_version() -> str:
    import diffusers

    return str(diffusers.__version__)
