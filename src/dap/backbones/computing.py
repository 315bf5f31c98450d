"""How a backbone computes: the precision, whether its blocks are compiled, and how its VAE decodes.

Guidance's energy and what becomes of eps are float32 whatever the precision; so is the VAE.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dap.errors import ConfigError, unknown

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

RECOMPILATIONS = 64


@dataclass(frozen=True, kw_only=True)
class Computing:
    """device of all parts; dtype of the diffusion model (fp32, fp16, bf16); compile its blocks; decode in tiles."""

    device: str = "cpu"
    dtype: str = "fp32"
    compile: bool = False
    vae_tiling: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(unknown("dtype", self.dtype, DTYPES))

    def checked(self) -> Computing:
        """Itself, when this machine can do it; ConfigError in one line when not."""
        if self.dtype != "fp32":
            try:
                _try_out(DTYPES[self.dtype], self.device)
            except (RuntimeError, TypeError, NotImplementedError) as error:
                raise ConfigError(
                    f"{self.dtype} cannot be computed on {self.device} here ({_first_line(error)}); use --dtype fp32"
                ) from None
        if self.compile:
            try:
                torch.compile(_try_compiled)(torch.ones(4, device=self.device))
            except Exception as error:  # a compiler may be missing in many ways
                raise ConfigError(
                    f"torch.compile cannot work on {self.device} here ({_first_line(error)}); leave --compile out"
                ) from None
        return self

    def placed(self, model: Any) -> Any:
        """A diffusion model on the device, in the precision, frozen, in evaluation mode."""
        model = model.to(self.device)
        if self.dtype != "fp32":  # a model in float64 stays so
            model = torch.nn.Module.to(model, DTYPES[self.dtype])  # not ModelMixin.to, which warns of half precision
        return model.eval().requires_grad_(False)


def compile_blocks(blocks: Iterable[Any], backend: str = "inductor") -> None:
    """Compiles each block's forward. Hooks of a tap stay outside, where they switch autograd and leave early."""
    import torch._dynamo.config as dynamo

    # Blocks of one class share their code, and each is compiled for itself with and without gradient, for conditional,
    # null and real rows; at its limit the compiler would leave the further blocks as they are.
    dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILATIONS)
    quiet_compiler()
    for block in blocks:
        block.forward = torch.compile(block.forward, backend=backend)


def quiet_compiler() -> None:
    """Leaves out what torch's compiler says of itself and what no user of dap is to act upon."""
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # its own look
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # on a GPU: float32 is meant to be float32


def computed(model: Any, forward: Any, x: Tensor) -> Tensor:
    """forward(x) with x in the model's own precision, and the result at least in float32."""
    out: Tensor = forward(x.to(next(model.parameters()).dtype))
    return out.float() if out.dtype.itemsize < 4 else out


@torch.no_grad()
def decode_slices(vae: Any, latents: Tensor, *, tiling: bool) -> Tensor:
    """Scaled-back latents [B, C, h, w] -> [B, 3, H, W] in [-1, 1], image by image: memory and bits know no batch.

    tiling  decode an image larger than the VAE was trained for in overlapping tiles: less memory, other pixels
    """
    if tiling:
        vae.enable_tiling()
    try:
        return torch.cat([vae.decode(latent).sample for latent in latents.split(1)])
    finally:
        if tiling:
            vae.disable_tiling()


def _try_out(dtype: torch.dtype, device: str) -> None:
    """What a backbone is made of, once, forwards and backwards."""
    x = torch.ones(1, 4, 4, 4, device=device, dtype=dtype, requires_grad=True)
    weight = torch.ones(4, 4, device=device, dtype=dtype)
    with torch.enable_grad():
        y = F.conv2d(x, weight.view(4, 4, 1, 1))
        y = F.gelu(F.linear(F.layer_norm(y, (4,)), weight, weight[0]), approximate="tanh")
        y = F.scaled_dot_product_attention(y, y, y).sum()
    torch.autograd.grad(y, x)


def _try_compiled(x: Tensor) -> Tensor:
    return x.sin() + 1


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
