"""A tiny Stable Diffusion with random weights, in memory and on disk in the published layout."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dap.backbones.prompts import Prompts, read_prompts
from dap.backbones.stable_diffusion import StableDiffusionBackbone
from dap.backbones.stable_diffusion_parts import load_tokenizer

# the schedule of the published 1.x and 2.x pipelines
SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
START, END = "<|startoftext|>", "<|endoftext|>"
PAD_OF_2 = "!"


def tiny_stable_diffusion(
    class_names: Sequence[str] = ("ant", "bee", "cat"),
    *,
    prediction_type: str = "epsilon",
    prompts: Prompts | None = None,
    size: int = 8,
    seed: int = 0,
    channels: Sequence[int] = (8, 16),
    second: bool = False,
) -> StableDiffusionBackbone:
    """A U-Net on 4 x size x size latents of RGB images of 2 x size px; no weight is zero.

    prompts   None: the default template for `class_names`
    channels  of the U-Net's levels, multiples of 4; all but the last see the text
    second    shaped as the 2.x family: heads counted level by level, linear projections, prompts padded with "!"
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with tempfile.TemporaryDirectory() as folder:
        tokenizer, _ = load_tokenizer(_save_tokenizer(Path(folder), PAD_OF_2 if second else END))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(size, 4, 4, **_levels(tuple(channels), second))
        kinds = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
        vae = AutoencoderKL(3, 3, *kinds, (8, 8), latent_channels=4, norm_num_groups=4)
        width: dict[str, Any] = {"hidden_act": "gelu" if second else "quick_gelu"}
        width |= {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        ends = {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1}
        text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), **width, **ends))
        for model in (unet, vae, text):
            disturb(model)
    schedule = {**SCHEDULE, "prediction_type": prediction_type}
    prompts = prompts or read_prompts(class_names)
    return StableDiffusionBackbone(unet, vae, text, tokenizer, schedule, prompts, name="tiny-sd")


def _levels(channels: tuple[int, ...], second: bool) -> dict[str, Any]:
    """The U-Net's settings as the 1.x or the 2.x family has them."""
    seeing = len(channels) - 1
    return {
        "block_out_channels": channels,
        "down_block_types": ("CrossAttnDownBlock2D",) * seeing + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * seeing,
        "attention_head_dim": [c // 4 for c in channels] if second else 2,
        "use_linear_projection": second,
        "upcast_attention": second,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
    }


def save_tiny_stable_diffusion(
    directory: str | Path, backbone: StableDiffusionBackbone | None = None, *, pickles: bool = False
) -> Path:
    """A pipeline directory laid out, named and keyed as Stable Diffusion 1.5 was published.

    backbone  None is `tiny_stable_diffusion()`
    pickles   weights as .bin files instead of safetensors
    """
    directory, backbone = Path(directory), backbone or tiny_stable_diffusion()
    for part in ("unet", "vae", "text_encoder"):
        model, where = getattr(backbone, part), directory / part
        model.save_config(where) if part != "text_encoder" else model.config.save_pretrained(where)
        stem = "diffusion_pytorch_model"
        if part == "text_encoder":
            stem = "pytorch_model" if pickles else "model"
        _save_weights(where / stem, _published(part, model.state_dict()), pickles)
    _save_tokenizer(directory / "tokenizer", backbone.tokenizer.pad_token)
    _write(directory / "scheduler" / "scheduler_config.json", dict(backbone.schedule))
    _write(directory / "model_index.json", INDEX)
    return directory


def disturb(model: Any) -> None:
    """Noise on every weight: diffusers starts biases and some norms at 0 or 1."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def _published(part: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of the published files: an older transformers' text encoder, an older diffusers' VAE attention."""
    if part == "text_encoder":
        state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in state.items()}
        positions = state["text_model.embeddings.position_embedding.weight"].shape[0]
        state["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    if part == "vae":
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, name in old.items():
            state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    return {key: value.contiguous().clone() for key, value in state.items()}


def _save_weights(path: Path, state: dict[str, Tensor], pickles: bool) -> None:
    from safetensors.torch import save_file

    if pickles:
        torch.save(state, path.with_suffix(".bin"))
    else:
        save_file(state, path.with_suffix(".safetensors"), metadata={"format": "pt"})


def _save_tokenizer(where: Path, pad: str = END) -> Path:
    """A byte-level vocabulary without merges, in the files of the published tokenizer."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in printable] + [chr(256 + k) for k in range(256 - len(printable))]
    tokens = [*characters, *(f"{c}</w>" for c in characters), START, END]
    _write(where / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (where / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": pad, "unk_token": END}
    _write(where / "special_tokens_map.json", special)
    kind = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "errors": "replace"}
    _write(where / "tokenizer_config.json", {**special, **kind})
    return where


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, sort_keys=True), encoding="utf-8")
