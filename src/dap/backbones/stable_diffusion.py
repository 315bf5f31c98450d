"""Stable Diffusion 1.x and 2.x: text-to-image latent diffusion in the diffusers layout.

    directory/  model_index.json            StableDiffusionPipeline
                unet/                        UNet2DConditionModel; taps down.0 .. mid .. up.N
                vae/                         AutoencoderKL
                text_encoder/, tokenizer/    CLIPTextModel, CLIPTokenizer
                scheduler/                   any of diffusers': its betas, prediction type, spacing and offset count

Parts are loaded one by one, so an old index that names classes which no longer exist does no harm, and no safety
checker is needed. The rest of `dap` sees noise estimates only: with v-prediction, eps = sqrt(alpha_bar) v +
sqrt(1 - alpha_bar) x_t, and the chain is told epsilon. Classifier-free guidance commutes with that.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dap.backbones.chain import Chain
from dap.backbones.computing import Computing, compile_blocks, computed, decode_slices
from dap.backbones.parts import weights_digest
from dap.backbones.prompts import Prompts
from dap.backbones.stable_diffusion_parts import check_parts, load_parts, noise_schedule, side_of
from dap.backbones.tapping import run_through, stop_at
from dap.errors import BackboneError, ConfigError, DapWarning, unknown
from dap.types import Prediction

CFG_SCALE = 7.5  # what Stable Diffusion is commonly sampled with
# of the text encoder: what it computes with besides its weights; its other settings name versions and paths
TEXT_SETTINGS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "eos_token_id", "use_attention_mask")
SHOWN = 60  # characters of a prompt in a message
KEPT_PROMPTS = 2048  # encoded prompts kept on the device: about 0.25 MB each


class StableDiffusionBackbone:
    """A frozen Stable Diffusion as `dap.backbones.base.Backbone` asks for it.

    unet          UNet2DConditionModel          vae        AutoencoderKL
    text_encoder  CLIPTextModel                 tokenizer  CLIPTokenizer
    scheduler     the scheduler's configuration (a mapping)
    prompts       of the dataset's classes: these are the backbone's classes
    computing     device, and the precision of the U-Net; the VAE and the text encoder compute in float32
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Mapping[str, Any],
        prompts: Prompts,
        *,
        name: str = "stable-diffusion",
        cfg_scale: float = CFG_SCALE,
        default_tap: str = "mid",
        computing: Computing | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        computing = computing or Computing()
        check_parts(name, unet.config, vae.config, text_encoder.config, len(tokenizer))
        self.name, self.device = name, torch.device(computing.device)
        self.prompts, self.class_names = prompts, prompts.class_names
        self.unet, self._tiling = computing.placed(unet), computing.vae_tiling
        if computing.compile:
            compile_blocks(self.compiled_parts())
        self.vae, self.text_encoder = (
            part.to(self.device).eval().requires_grad_(False) for part in (vae, text_encoder)
        )
        self.vae.enable_slicing()  # encodes one image at a time: its memory is many times the U-Net's
        self.tokenizer, self.schedule, self._files = tokenizer, scheduler, tuple(files)
        side = side_of(name, unet.config.sample_size)
        self.latent_shape = (int(unet.config.in_channels), side, side)
        self.image_size = side * 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_mode, self.learned_variance = "RGB", False
        self.cfg_scale, self.default_tap = cfg_scale, default_tap
        self.row_cost = side * side * int(unet.config.block_out_channels[0])
        self._predicts_v, self._alpha_bar = noise_schedule(name, scheduler)
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()
        self._tell_what_is_cut_off()

    def weights_digest(self) -> str:
        """sha256 over each part's settings and the loaded files; over the tensors of a model made in memory."""
        text = {key: getattr(self.text_encoder.config, key, None) for key in TEXT_SETTINGS}
        settings = [self.schedule, self.unet.config, self.vae.config, text]
        return weights_digest(settings, self._files, (self.unet, self.vae, self.text_encoder))

    def chain(self, scheduler: str, steps: int, eta: float, variance: str = "fixed") -> Chain:
        """The reverse chain over this pipeline's own noise schedule, timestep spacing and offset, for eps.

        variance  only "fixed": Stable Diffusion has learned none

        Raises: ConfigError for so many steps that the first lies outside the schedule.
        """
        if variance != "fixed":
            raise ConfigError(f"sampling.variance is {variance!r}, but {self.name} has learned none; use 'fixed'")
        config = {**self.schedule, "prediction_type": "epsilon"}
        return Chain(config, scheduler, steps, eta, latent=True, spacing=None)

    def condition(self, classes: Sequence[int], indices: Sequence[int] | None = None) -> Tensor:
        """Text embeddings [B, tokens, width]: of the images' own prompts, without `indices` of the classes' own."""
        of = [None] * len(classes) if indices is None else list(indices)
        return torch.stack([self._encoded(self.prompts.text(c, i)) for c, i in zip(classes, of, strict=True)])

    def null_condition(self, rows: int) -> Tensor:
        """The negative prompt's embedding, [rows, tokens, width]."""
        embedding = self._encoded(self.prompts.negative)
        return embedding.expand(rows, *embedding.shape)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images float [B, 3, H, W] in [0, 1] -> x_0 [B, C, h, w]: the mode of the VAE's posterior, scaled."""
        x = images.to(self.device, torch.float32) * 2 - 1
        latents: Tensor = self.vae.encode(x).latent_dist.mode() * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """x_0 [B, C, h, w] -> images float [B, 3, H, W] in [0, 1]."""
        x = decode_slices(self.vae, latents.float() / self.vae.config.scaling_factor, tiling=self._tiling)
        images: Tensor = (x / 2 + 0.5).clamp(0, 1)
        return images

    def taps(self) -> tuple[str, ...]:
        """`down.0` ..., `mid`, `up.0` ...: the hidden states [B, width, h, w] that each block gives to the next."""
        down, up = (range(len(blocks)) for blocks in (self.unet.down_blocks, self.unet.up_blocks))
        return (*(f"down.{k}" for k in down), "mid", *(f"up.{k}" for k in up))

    def compiled_parts(self) -> list[nn.Module]:
        """The blocks that `torch.compile` takes one by one."""
        return [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        """eps [B, C, H, W] and, with `tap`, features [B, width, h, w] whose graph ends at the tap, skips included."""
        if tap is None:
            with torch.no_grad():
                return Prediction(self._eps(x, t, condition))
        return Prediction(*run_through(self._layer(tap), lambda: self._eps(x, t, condition)))

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        """Features [B, width, h, w]; the blocks behind the tap do not run."""
        return stop_at(self._layer(tap), lambda: self._eps(x, t, condition))

    def _eps(self, x: Tensor, t: int, condition: Tensor) -> Tensor:
        timestep = torch.full((len(x),), t, dtype=torch.long, device=self.device)
        told = condition.expand(len(x), *condition.shape[1:])  # a single row is shared
        out = computed(self.unet, lambda x: self.unet(x, timestep, encoder_hidden_states=told.to(x.dtype)).sample, x)
        if self._predicts_v:
            alpha_bar = float(self._alpha_bar[t])
            out = alpha_bar**0.5 * out + (1 - alpha_bar) ** 0.5 * x
        return out

    def _layer(self, tap: str) -> nn.Module:
        if tap not in self.taps():
            raise BackboneError(unknown(f"tap of {self.name}", tap, self.taps()))
        part, _, number = tap.partition(".")
        layer: nn.Module = self.unet.mid_block if part == "mid" else getattr(self.unet, f"{part}_blocks")[int(number)]
        return layer

    @property
    def _most_tokens(self) -> int:
        return int(min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings))

    def _tell_what_is_cut_off(self) -> None:
        """One warning for all prompts that are too long; every prompt is asked for, so a missing one is known early."""
        told, most = self.prompts.told(), self._most_tokens
        # a token is a byte or more, and two mark the ends
        long = [text for text in told if len(text.lower().encode()) + 2 > most]
        lengths = [(text, len(self.tokenizer(text, verbose=False).input_ids)) for text in long]
        cut = [(text, length) for text, length in lengths if length > most]
        if cut:
            text, length = cut[0]
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
            warnings.warn(
                f"{len(cut)} of {len(told)} prompts are cut off at {most} tokens, e.g. {shown!r} with {length}",
                DapWarning,
                stacklevel=3,
            )

    @torch.no_grad()
    def _encoded(self, text: str) -> Tensor:
        """Embedding [tokens, width] of one prompt, alone in its batch and kept: other prompts do not touch its bits."""
        if text not in self._embeddings:
            cut = {"padding": "max_length", "max_length": self._most_tokens, "truncation": True, "verbose": False}
            tokens = self.tokenizer(text, return_tensors="pt", **cut).to(self.device)
            mask = tokens.attention_mask if getattr(self.text_encoder.config, "use_attention_mask", False) else None
            self._embeddings[text] = self.text_encoder(tokens.input_ids, attention_mask=mask)[0][0]
            while len(self._embeddings) > KEPT_PROMPTS:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(text)
        return self._embeddings[text]


def open_stable_diffusion(
    directory: Path,
    prompts: Prompts | None,
    *,
    name: str | None = None,
    vae: Path | None = None,
    computing: Computing | None = None,
) -> StableDiffusionBackbone:
    """The backbone of a StableDiffusionPipeline directory on disk; `vae` replaces its VAE.

    Raises: BackboneError when a part is missing, damaged or does not fit, or without prompts; DataError for a prompt.
    """
    name = name or str(directory)
    if prompts is None:
        raise BackboneError(
            f"{name} is a text-to-image model and has no classes of its own; give prompts=read_prompts(class_names)"
        )
    parts = load_parts(directory, vae)
    models = (parts.unet, parts.vae, parts.text_encoder, parts.tokenizer, parts.scheduler)
    return StableDiffusionBackbone(*models, prompts, name=name, computing=computing, files=parts.files)
