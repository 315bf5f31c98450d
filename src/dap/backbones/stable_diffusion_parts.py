"""The parts of a Stable Diffusion pipeline: read from their folders one by one, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dap.backbones.parts import find_weights, load_part, load_vae, read_json
from dap.backbones.weights import TRANSFORMERS
from dap.errors import BackboneError

KINDS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")


@dataclass(frozen=True)
class Parts:
    """Models in float32, the tokenizer, the scheduler's configuration, and the files that all this was read from."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: dict[str, Any]
    files: tuple[Path, ...]


def load_parts(directory: Path, vae: Path | None = None) -> Parts:
    """The parts of a pipeline directory; `vae` is the directory of another VAE, or of a pipeline that has one.

    Raises: BackboneError when a part is missing, damaged, or of a class that dap does not know.
    """
    from diffusers import UNet2DConditionModel

    index = read_json(directory / "model_index.json")
    for part, kind in {**KINDS, "tokenizer": TOKENIZERS[0]}.items():
        said = index.get(part)
        named = str(said[-1]) if isinstance(said, list) and said else kind
        if named not in (kind, *TOKENIZERS[1:] * (part == "tokenizer")):
            raise BackboneError(f"{directory}: its {part} is a {named}; of Stable Diffusion 1.x and 2.x it is a {kind}")
    if vae is None and not (directory / "vae").is_dir():
        raise BackboneError(f"{directory / 'vae'} is missing; fetch the pipeline again, or name another: --vae DIR")
    tokenizer, words = load_tokenizer(directory / "tokenizer")
    text_encoder, text_files = _load_text_encoder(directory / "text_encoder")
    unet = load_part(UNet2DConditionModel, directory, "unet")
    vae_model, vae_files = load_vae(vae or directory)
    return Parts(
        unet=unet,
        vae=vae_model,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=read_json(directory / "scheduler" / "scheduler_config.json"),
        files=(*find_weights(directory / "unet").files, *vae_files, *text_files, *words),
    )


def load_tokenizer(where: Path) -> tuple[Any, list[Path]]:
    """A CLIPTokenizer and the files that its words come from. Raises: BackboneError when one is missing or damaged."""
    from transformers import CLIPTokenizer

    files = [where / name for name in ("vocab.json", "merges.txt")]
    if (where / "tokenizer.json").is_file():
        files = [where / "tokenizer.json"]
    for file in files:
        if not file.is_file():  # transformers would make an empty vocabulary up
            raise BackboneError(f"{file} is missing; a Stable Diffusion pipeline has it: fetch the pipeline again")
    options = [where / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
    files += [file for file in options if file.is_file()]
    try:
        return CLIPTokenizer.from_pretrained(str(where), local_files_only=True), files
    except Exception as error:
        raise BackboneError(f"cannot load {where}: {_first_line(error)}; fetch the pipeline again") from error


def _load_text_encoder(where: Path) -> tuple[Any, tuple[Path, ...]]:
    from transformers import CLIPTextModel
    from transformers.utils import logging

    if not (where / "config.json").is_file():
        raise BackboneError(f"{where} has no config.json; fetch the pipeline again")
    weights = find_weights(where, TRANSFORMERS)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, info = CLIPTextModel.from_pretrained(
            str(where), local_files_only=True, output_loading_info=True, weights_only=True, **weights.options
        )
    except Exception as error:
        raise BackboneError(
            f"cannot load {where}: {_first_line(error)}; the checkpoint may be damaged, fetch it again"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    wrong = [str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info.get(kind, ())]
    wrong = [key for key in wrong if not key.endswith("position_ids")]  # older files store these constants
    if wrong:
        raise BackboneError(f"{where}: {len(wrong)} weights missing, unexpected or of another shape, e.g. {wrong[0]}")
    return model.float(), weights.files


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def check_parts(name: str, unet: Any, vae: Any, text: Any, tokens: int) -> None:
    """BackboneError unless the parts' configurations fit each other and what is computed here.

    unet, vae, text  the configurations       tokens  how many the tokenizer knows
    """
    if int(unet.in_channels) != int(vae.latent_channels):
        raise BackboneError(
            f"{name} works on {unet.in_channels} channels, its VAE gives {vae.latent_channels}; use its own VAE"
            + ("; inpainting models cannot be used" if int(unet.in_channels) == 9 else "")
        )
    if unet.cross_attention_dim != text.hidden_size:
        raise BackboneError(
            f"{name}: the U-Net reads text of width {unet.cross_attention_dim}, the text encoder gives "
            f"{text.hidden_size}; they are not of one pipeline"
        )
    if tokens > text.vocab_size:
        raise BackboneError(f"{name}: the tokenizer has {tokens} tokens, the text encoder knows {text.vocab_size}")
    for key in ("class_embed_type", "num_class_embeds", "addition_embed_type", "time_cond_proj_dim"):
        if unet.get(key) is not None:
            raise BackboneError(f"{name}: its U-Net needs more than text ({key} is {unet.get(key)!r}), which dap lacks")


def side_of(name: str, sample_size: Any) -> int:
    """The latents' side. Raises: BackboneError for a U-Net that names none, or one that is not square."""
    sides = {sample_size} if isinstance(sample_size, int) else set(sample_size or ())
    if len(sides) != 1:
        raise BackboneError(f"{name}: the U-Net's sample_size is {sample_size!r}; dap needs one number, square images")
    return int(sides.pop())


def noise_schedule(name: str, config: Mapping[str, Any]) -> tuple[bool, Tensor]:
    """(whether the model predicts v, alpha_bar [timesteps] of the training); BackboneError for other predictions."""
    from diffusers import DDPMScheduler

    kind = config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise BackboneError(f"{name}: prediction_type is {kind!r}; dap knows 'epsilon' and 'v_prediction'")
    if config.get("rescale_betas_zero_snr"):
        raise BackboneError(
            f"{name}: its schedule ends at pure noise (rescale_betas_zero_snr), where no eps tells x_0; not supported"
        )
    return kind == "v_prediction", DDPMScheduler.from_config(dict(config)).alphas_cumprod
