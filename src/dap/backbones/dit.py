"""DiT: class-conditional diffusion transformers in the diffusers layout, in pixel or latent space.

    directory/  model_index.json            DiTPipeline; `id2label` names the classes
                transformer/config.json     DiTTransformer2DModel
                transformer/diffusion_pytorch_model.safetensors
                scheduler/scheduler_config.json
                vae/                         absent when diffusion runs on pixels
                dap.json                     optional: class names, image mode, recommended cfg_scale and tap, training

`facebook/DiT-XL-2-256` has this layout, and `dap train` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dap.backbones.chain import Chain
from dap.backbones.tapping import run_through, stop_at
from dap.errors import BackboneError, unknown
from dap.types import Prediction

TAP_DEPTH = 0.28  # block 8 of DiT-XL/2's 28, the middle of the range that the paper found best


class DiTBackbone:
    """A frozen DiT as `dap.backbones.base.Backbone` asks for it; made by `load_dit` or from parts in memory.

    transformer   DiTTransformer2DModel; with learned variance its second half of channels is dropped
    scheduler     the scheduler's configuration (a mapping)
    class_names   in the order of the label table, without the null class
    vae           AutoencoderKL, or None: x_0 is the image scaled to [-1, 1]
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
        files: Sequence[Path] = (),
    ) -> None:
        config = transformer.config
        classes = int(config.num_embeds_ada_norm)
        if len(class_names) != classes:
            raise BackboneError(f"{name}: {len(class_names)} class names for a label table of {classes} classes")
        self.name, self.device, self.class_names = name, torch.device(device), tuple(class_names)
        self.transformer = transformer.to(self.device).eval().requires_grad_(False)
        self.vae = None if vae is None else vae.to(self.device).eval().requires_grad_(False)
        self.latent_shape = (int(config.in_channels), int(config.sample_size), int(config.sample_size))
        self.image_size = self.latent_shape[1] * (1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1))
        self.image_mode = "L" if vae is None and self.latent_shape[0] == 1 else "RGB"
        self.cfg_scale = cfg_scale
        self.default_tap = default_tap or f"block.{round(TAP_DEPTH * len(transformer.transformer_blocks))}"
        self.row_cost = (self.latent_shape[1] // int(config.patch_size)) ** 2 * (
            int(config.num_attention_heads) * int(config.attention_head_dim)
        )
        self.schedule, self._null_class, self._files = scheduler, classes, tuple(files)
        _check_channels(name, self.latent_shape[0], self.vae)

    def weights_digest(self) -> str:
        """sha256 over the noise schedule and the weight files; over the tensors when the model was made in memory."""
        schedule = {key: value for key, value in dict(self.schedule).items() if not key.startswith("_")}
        total = sha256(json.dumps(schedule, sort_keys=True, default=str).encode())
        for path in self._files:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
        if not self._files:
            models = [self.transformer] if self.vae is None else [self.transformer, self.vae]
            for key, value in sorted(item for model in models for item in model.state_dict().items()):
                total.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def chain(self, scheduler: str, steps: int, eta: float) -> Chain:
        """The reverse chain over this pipeline's own noise schedule."""
        return Chain(self.schedule, scheduler, steps, eta, latent=self.vae is not None)

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
        x = latents if self.vae is None else self.vae.decode(latents / self.vae.config.scaling_factor).sample
        images: Tensor = (x / 2 + 0.5).clamp(0, 1)
        return images

    def taps(self) -> tuple[str, ...]:
        """`block.0` ... `block.N-1`: the token features [B, tokens, width] behind each transformer block."""
        return tuple(f"block.{k}" for k in range(len(self.transformer.transformer_blocks)))

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        """eps [B, C, H, W] and, with `tap`, features [B, tokens, width] whose graph ends at the tap."""
        if tap is None:
            with torch.no_grad():
                return Prediction(self._eps(x, t, condition))
        return Prediction(*run_through(self._layer(tap), lambda: self._eps(x, t, condition)))

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        """Features [B, tokens, width]; the blocks behind the tap do not run."""
        return stop_at(self._layer(tap), lambda: self._eps(x, t, condition))

    def _eps(self, x: Tensor, t: int, condition: Tensor) -> Tensor:
        timestep = torch.full((len(x),), t, dtype=torch.long, device=self.device)
        out: Tensor = self.transformer(x, timestep=timestep, class_labels=condition).sample
        return out[:, : self.latent_shape[0]]  # a learned variance sits behind the noise channels

    def _layer(self, tap: str) -> nn.Module:
        if tap not in self.taps():
            raise BackboneError(unknown(f"tap of {self.name}", tap, self.taps()))
        layer: nn.Module = self.transformer.transformer_blocks[int(tap.partition(".")[2])]
        return layer


def load_dit(directory: Path, *, name: str, vae: Path | None = None, device: torch.device | str = "cpu") -> DiTBackbone:
    """The backbone of a DiT pipeline directory on disk.

    Raises: BackboneError when a part is missing or damaged, when the classes have no names, or when weights exist only
    as a pickle that `weights_only` loading refuses.
    """
    from diffusers import AutoencoderKL, DiTTransformer2DModel

    record = read_json(directory / "dap.json") if (directory / "dap.json").exists() else {}
    transformer = load_part(DiTTransformer2DModel, directory, "transformer")
    own_vae = directory if (directory / "vae").is_dir() else None
    vae_at = vae or own_vae
    files = _weight_files(directory / "transformer")
    if vae_at is not None:
        part = "vae" if (vae_at / "vae").is_dir() else ""
        vae_model = load_part(AutoencoderKL, vae_at, part)
        files += _weight_files(vae_at / part)
    else:
        vae_model = None
    return DiTBackbone(
        transformer,
        read_json(directory / "scheduler" / "scheduler_config.json"),
        _class_names(directory, record, int(transformer.config.num_embeds_ada_norm)),
        vae=vae_model,
        name=name,
        cfg_scale=float(record.get("cfg_scale", 4.0 if vae_model is not None else 1.0)),
        default_tap=record.get("tap"),
        device=device,
        files=files,
    )


def load_part(kind: Any, directory: Path, part: str, **options: Any) -> Any:
    """One model of a pipeline directory in float32, safetensors (or a pickle under `weights_only`), nothing fetched.

    options  more for `from_pretrained`, e.g. variant="fp16"
    """
    where = directory / part if part else directory
    if not (where / "config.json").is_file():
        raise BackboneError(f"{where} has no config.json; a diffusers pipeline directory has one in {part or 'it'}/")
    try:
        model, info = kind.from_pretrained(
            str(directory),
            subfolder=part or None,
            local_files_only=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot load {where}: {first}; the checkpoint may be damaged, fetch or train it again"
        ) from error
    wrong = [
        *info.get("missing_keys", ()),
        *info.get("unexpected_keys", ()),
        *info.get("mismatched_keys", ()),
    ]
    if wrong:
        raise BackboneError(f"{where}: {len(wrong)} weights missing, unexpected or of another shape, e.g. {wrong[0]}")
    return model


def _weight_files(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.suffix in (".safetensors", ".bin"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a pipeline directory."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror}; is its directory a whole pipeline?") from None
    except ValueError:
        raise BackboneError(f"{path} is not valid JSON; the checkpoint is damaged") from None
    if not isinstance(record, dict):
        raise BackboneError(f"{path} does not hold a JSON object; the checkpoint is damaged")
    return record


def _class_names(directory: Path, record: dict[str, Any], classes: int) -> list[str]:
    if "class_names" in record:
        return [str(name) for name in record["class_names"]]
    labels = read_json(directory / "model_index.json").get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(classes)}:
        raise BackboneError(
            f"{directory}: model_index.json names no classes (id2label), so no dataset can be matched to it"
        )
    return [str(labels[str(i)]) for i in range(classes)]


def _check_channels(name: str, channels: int, vae: Any) -> None:
    if vae is None and channels not in (1, 3):
        raise BackboneError(
            f"{name} works on {channels} latent channels but has no VAE; name one: --vae DIR or a hub id"
        )
    if vae is not None and int(vae.config.latent_channels) != channels:
        raise BackboneError(
            f"{name} works on {channels} channels, its VAE gives {vae.config.latent_channels}; use its own VAE"
        )
