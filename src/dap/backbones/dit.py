"""DiT: class-conditional diffusion transformers in the diffusers layout, in pixel or latent space.

    directory/  model_index.json            DiTPipeline; `id2label` names the classes
                transformer/config.json     DiTTransformer2DModel
                transformer/diffusion_pytorch_model.safetensors
                scheduler/scheduler_config.json
                vae/                         absent when diffusion runs on pixels
                dap.json                     optional: class names, recommended cfg_scale and tap, training, and
                                             "time_embedding": "original" where diffusers' own is not the model's

`facebook/DiT-XL-2-256` has this layout, and `dap train` and `dap convert` write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dap.backbones.chain import Chain
from dap.backbones.computing import Computing, compile_blocks, computed, decode_slices
from dap.backbones.parts import find_weights, load_part, load_vae, read_json, weights_digest
from dap.backbones.tapping import run_through, stop_at
from dap.errors import BackboneError, unknown
from dap.types import Prediction

__all__ = [
    "DiTBackbone",
    "check_channels",
    "load_dit",
    "load_part",
    "read_json",
    "set_time_embedding",
    "time_embedding",
]

TAP_DEPTH = 0.28  # block 8 of DiT-XL/2's 28, the middle of the range that the paper found best


class DiTBackbone:
    """A frozen DiT as `dap.backbones.base.Backbone` asks for it; made by `load_dit` or from parts in memory.

    transformer   DiTTransformer2DModel; twice the output channels are a learned variance
    scheduler     the scheduler's configuration (a mapping)
    class_names   in the order of the label table, without the null class
    vae           AutoencoderKL, or None: x_0 is the image scaled to [-1, 1]
    computing     device and precision; `device` alone is float32 there
    """

    def __init__(
        self,
        transformer: Any,
        scheduler: Any,
        class_names: Sequence[str],
        *,
        vae: Any = None,
        name: str = "dit",
        cfg_scale: float = 1.0,
        default_tap: str | None = None,
        device: torch.device | str = "cpu",
        computing: Computing | None = None,
        files: Sequence[Path] = (),
        from_scratch: bool = False,
    ) -> None:
        config, computing = transformer.config, computing or Computing(device=str(device))
        classes = int(config.num_embeds_ada_norm)
        if len(class_names) != classes:
            raise BackboneError(f"{name}: {len(class_names)} class names for a label table of {classes} classes")
        if vae is None and computing.vae_tiling:
            raise BackboneError(f"{name} has no VAE to tile; leave backbone.vae_tiling out")
        self.name, self.device, self.class_names = name, torch.device(computing.device), tuple(class_names)
        self.transformer, self._tiling = computing.placed(transformer), computing.vae_tiling
        if computing.compile:
            compile_blocks(self.transformer.transformer_blocks)
        self.vae = None if vae is None else vae.to(self.device).eval().requires_grad_(False)
        self.latent_shape = (int(config.in_channels), int(config.sample_size), int(config.sample_size))
        self.image_size = self.latent_shape[1] * (1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1))
        self.learned_variance = int(config.out_channels or 0) == 2 * self.latent_shape[0]
        self.image_mode = "L" if vae is None and self.latent_shape[0] == 1 else "RGB"
        self.cfg_scale, self.from_scratch = cfg_scale, from_scratch
        self.default_tap = default_tap or f"block.{round(TAP_DEPTH * len(transformer.transformer_blocks))}"
        self.row_cost = (self.latent_shape[1] // int(config.patch_size)) ** 2 * (
            int(config.num_attention_heads) * int(config.attention_head_dim)
        )
        if self.vae is not None:
            self.vae.enable_slicing()  # encodes one image at a time: its memory is many times the transformer's
        self.schedule, self._null_class, self._files = scheduler, classes, tuple(files)
        self.time_embedding = time_embedding(transformer)
        check_channels(name, self.latent_shape[0], self.vae)

    def weights_digest(self) -> str:
        """sha256 over each part's settings and the weight files; over the tensors of a model made in memory."""
        models = [self.transformer, *([] if self.vae is None else [self.vae])]
        other = [] if self.time_embedding == "diffusers" else [{"time_embedding": self.time_embedding}]
        return weights_digest([self.schedule, *(model.config for model in models), *other], self._files, models)

    def chain(self, scheduler: str, steps: int, eta: float, variance: str = "fixed") -> Chain:
        """The reverse chain over this pipeline's own noise schedule.

        ddpm runs the original DiT's respaced chain, from the noisiest timestep to the cleanest; ddim the pipeline's own
        spacing, as diffusers' DiTPipeline does.
        """
        spacing = "linspace" if scheduler == "ddpm" else None
        latent = self.vae is not None
        return Chain(self.schedule, scheduler, steps, eta, latent=latent, spacing=spacing, variance=variance)

    def condition(self, classes: Sequence[int], indices: Sequence[int] | None = None) -> Tensor:
        """Label-table rows, int64 [B]; all images of a class have the same."""
        return torch.tensor(list(classes), dtype=torch.long, device=self.device)

    def null_condition(self, rows: int) -> Tensor:
        """The row behind the last class, int64 [rows]: 1000 for ImageNet, 10 for the digits."""
        return torch.full((rows,), self._null_class, dtype=torch.long, device=self.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images float [B, c, H, W] in [0, 1] -> x_0 [B, C, h, w]; a VAE gives the mode of its posterior, scaled."""
        x = images.to(self.device, torch.float32) * 2 - 1
        if self.vae is None:
            return x
        latents: Tensor = self.vae.encode(x).latent_dist.mode() * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """x_0 [B, C, h, w] -> images float [B, c, H, W] in [0, 1]."""
        scaled = latents if self.vae is None else latents / self.vae.config.scaling_factor
        x = latents if self.vae is None else decode_slices(self.vae, scaled, tiling=self._tiling)
        images: Tensor = (x / 2 + 0.5).clamp(0, 1)
        return images

    def taps(self) -> tuple[str, ...]:
        """`block.0` ... `block.N-1`: the token features [B, tokens, width] behind each transformer block."""
        return tuple(f"block.{k}" for k in range(len(self.transformer.transformer_blocks)))

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        """eps [B, C, H, W], the learned variance, and with `tap` features [B, tokens, width], graph up to the tap."""
        features = None
        if tap is None:
            with torch.no_grad():
                out = self._output(x, t, condition)
        else:
            out, features = run_through(self._layer(tap), lambda: self._output(x, t, condition))
        channels = self.latent_shape[0]
        return Prediction(out[:, :channels], features, out[:, channels:] if self.learned_variance else None)

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        """Features [B, tokens, width]; the blocks behind the tap do not run."""
        return stop_at(self._layer(tap), lambda: self._output(x, t, condition))

    def _output(self, x: Tensor, t: int, condition: Tensor) -> Tensor:
        # as many timesteps as conditions: a single pair is embedded once and broadcast over all rows
        timestep = torch.full((len(condition),), t, dtype=torch.long, device=self.device)
        return computed(
            self.transformer, lambda x: self.transformer(x, timestep=timestep, class_labels=condition).sample, x
        )

    def _layer(self, tap: str) -> nn.Module:
        if tap not in self.taps():
            raise BackboneError(unknown(f"tap of {self.name}", tap, self.taps()))
        layer: nn.Module = self.transformer.transformer_blocks[int(tap.partition(".")[2])]
        return layer


def load_dit(directory: Path, *, name: str, vae: Path | None = None, computing: Computing | None = None) -> DiTBackbone:
    """The backbone of a DiT pipeline directory on disk.

    Raises: BackboneError when a part is missing or damaged, when the classes have no names, or when weights exist only
    as a pickle that `weights_only` loading refuses.
    """
    from diffusers import DiTTransformer2DModel

    record = read_json(directory / "dap.json") if (directory / "dap.json").exists() else {}
    transformer = load_part(DiTTransformer2DModel, directory, "transformer")
    if "time_embedding" in record:
        set_time_embedding(transformer, record["time_embedding"], str(directory / "dap.json"))
    vae_at = vae or (directory if (directory / "vae").is_dir() else None)
    vae_model, vae_files = (None, ()) if vae_at is None else load_vae(vae_at)
    return DiTBackbone(
        transformer,
        read_json(directory / "scheduler" / "scheduler_config.json"),
        _class_names(directory, record, int(transformer.config.num_embeds_ada_norm)),
        vae=vae_model,
        name=name,
        cfg_scale=float(record.get("cfg_scale", 4.0 if vae_model is not None else 1.0)),
        default_tap=record.get("tap"),
        computing=computing,
        files=[*find_weights(directory / "transformer").files, *vae_files],
        from_scratch=_from_scratch(record),
    )


def _from_scratch(record: dict[str, Any]) -> bool:
    """As dap.json says; of a record before that key, whether its training began from nothing."""
    trained = record.get("training")
    began = isinstance(trained, dict) and trained.get("from", "") is None
    return bool(record.get("from_scratch", began))


# The frequencies of the sinusoidal time embedding fall from 1 to 1/10000 in `half` steps in the original DiT,
# in `half - 1` in diffusers: eps of a random network differs by 6 %.
_SHIFT = {"original": 0, "diffusers": 1}


def time_embedding(transformer: Any) -> str:
    """Which time embedding a DiT computes with: `original` or `diffusers`."""
    shift = transformer.transformer_blocks[0].norm1.emb.time_proj.downscale_freq_shift
    return next(name for name, value in _SHIFT.items() if value == shift)


def set_time_embedding(transformer: Any, name: str, where: str) -> None:
    """Makes every block's time embedding `original` or `diffusers`; `where` the name was found, for the message."""
    if name not in _SHIFT:
        raise BackboneError(f"{where}: " + unknown("time_embedding", str(name), _SHIFT))
    for block in transformer.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = _SHIFT[name]


def _class_names(directory: Path, record: dict[str, Any], classes: int) -> list[str]:
    if "class_names" in record:
        return [str(name) for name in record["class_names"]]
    labels = read_json(directory / "model_index.json").get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(classes)}:
        raise BackboneError(
            f"{directory}: model_index.json names no classes (id2label), so no dataset can be matched to it"
        )
    return [str(labels[str(i)]) for i in range(classes)]


def check_channels(name: str, channels: int, vae: Any) -> None:
    """BackboneError when latents lack a VAE, or have other channels than the VAE's."""
    if vae is None and channels not in (1, 3):
        raise BackboneError(
            f"{name} works on {channels} latent channels but has no VAE; name one: --vae DIR or a hub id"
        )
    if vae is not None and int(vae.config.latent_channels) != channels:
        raise BackboneError(
            f"{name} works on {channels} channels, its VAE gives {vae.config.latent_channels}; use its own VAE"
        )
