"""Backbones of the published sizes with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dap.backbones import Backbone, read_prompts
from dap.backbones.computing import Computing


def build_vae(tiny: bool) -> Any:
    """The VAE of both."""
    from diffusers import AutoencoderKL

    blocks = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    widths, layers = ((32,) * 4, 1) if tiny else ((128, 256, 512, 512), 2)
    return AutoencoderKL(3, 3, *blocks, block_out_channels=widths, layers_per_block=layers, latent_channels=4)


def build_dit(computing: Computing, tiny: bool) -> tuple[Backbone, str]:
    """DiT-XL/2 at 256 px with random weights, learned variance and no VAE weights to speak of; and its tap."""
    from diffusers import DiTTransformer2DModel

    from dap.backbones.dit import DiTBackbone
    from dap.backbones.original_dit import ARCHITECTURES, CFG_SCALE, SCHEDULE, set_time_embedding

    depth, width, heads, patch = (9, 32, 2, 2) if tiny else ARCHITECTURES["DiT-XL/2"]
    with torch.random.fork_rng(devices=[]), torch.device(computing.device):
        torch.manual_seed(0)
        model = DiTTransformer2DModel(
            heads, width // heads, 4, 8, depth, sample_size=8 if tiny else 32, patch_size=patch, norm_eps=1e-6
        )
        vae = build_vae(tiny)
    set_time_embedding(model, "original", "here")
    names = [f"class {k}" for k in range(1000)]
    backbone = DiTBackbone(model, SCHEDULE, names, vae=vae, name="DiT-XL/2", cfg_scale=CFG_SCALE, computing=computing)
    return backbone, "block.8"


def build_sd(computing: Computing, tiny: bool) -> tuple[Backbone, str]:
    """Stable Diffusion 1.5 at 512 px with random weights and a vocabulary of bytes; and its tap."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from dap.backbones.stable_diffusion import StableDiffusionBackbone
    from dap.testing import tiny_stable_diffusion

    small = tiny_stable_diffusion()
    ends = {"bos_token_id": len(small.tokenizer) - 2, "eos_token_id": len(small.tokenizer) - 1}
    layers = {"num_hidden_layers": 1 if tiny else 12, "num_attention_heads": 12}
    text = CLIPTextConfig(vocab_size=len(small.tokenizer), hidden_size=768, intermediate_size=3072, **layers, **ends)
    with torch.random.fork_rng(devices=[]), torch.device(computing.device):
        torch.manual_seed(0)
        widths = (32,) * 4 if tiny else (320, 640, 1280, 1280)
        unet = UNet2DConditionModel(16 if tiny else 64, 4, 4, block_out_channels=widths, cross_attention_dim=768)
        parts = unet, build_vae(tiny), CLIPTextModel(text), small.tokenizer, small.schedule
    prompts = read_prompts([f"class {k}" for k in range(10)])
    return StableDiffusionBackbone(*parts, prompts, name="Stable Diffusion 1.5", computing=computing), "mid"


BUILDERS: dict[str, Callable[[Computing, bool], tuple[Backbone, str]]] = {"dit": build_dit, "sd": build_sd}
