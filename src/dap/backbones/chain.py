"""`Chain`: one reverse chain, a thin coat over a diffusers scheduler so that the loop sees three verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dap.fields import require


class Chain:
    """`timesteps` from noisy to clean, `step` along them, `noised` for real images.

    The schedule (betas, prediction type, clipping) is the pipeline's own. `linspace` spacing gives the respaced
    chain of the original DiT code: 0 .. 999 cut into `steps` points, both ends included. None keeps the pipeline's own.
    Under every spacing a step ends at the noise level of the timestep that the model is told next.

    variance   "fixed": beta~, the posterior's; "learned": ddpm with the model's own, between beta~ and beta
    alpha_bar  [timesteps of the training], the noise level of each

    Raises: ConfigError for so many steps that the first lies outside the schedule.
    """

    def __init__(
        self,
        config: Any,
        scheduler: str,
        steps: int,
        eta: float,
        *,
        latent: bool,
        spacing: str | None,
        variance: str = "fixed",
    ) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler

        own: dict[str, Any] = {} if spacing is None else {"timestep_spacing": spacing}
        if latent:
            own["clip_sample"] = False  # diffusers' class default is True, which cuts latents off at 1
        self._learned = variance == "learned"
        if self._learned and scheduler != "ddpm":
            raise ValueError(f"a learned variance is sampled by ddpm, not {scheduler}")
        if scheduler == "ddpm":
            if self._learned:
                own["variance_type"] = "learned_range"
            elif str(config.get("variance_type", "")).startswith("learned"):
                own["variance_type"] = "fixed_small"
            self._scheduler = DDPMScheduler.from_config(config, **own)
            self._arguments: dict[str, Any] = {}
        else:
            self._scheduler = DDIMScheduler.from_config(config, **own)
            self._arguments = {"eta": eta}
        self._scheduler.set_timesteps(steps)
        self.timesteps: tuple[int, ...] = tuple(int(t) for t in self._scheduler.timesteps)
        self.alpha_bar: Tensor = self._scheduler.alphas_cumprod
        last = len(self.alpha_bar) - 1
        require(
            self.timesteps[0] <= last,
            f"sampling.steps is {steps}, but the schedule begins at its steps_offset, beyond {last}; use fewer",
        )
        self._named = {t: t for t in self.timesteps}
        if scheduler == "ddim":
            self._number_levels()

    def _number_levels(self) -> None:
        """Shows ddim this chain's noise levels alone, numbered 0 (clean) .. steps - 1.

        diffusers' ddim steps by a constant, training timesteps // steps, and so misses the next timestep of any chain
        but a `leading` one; between neighbours of consecutive numbers that constant is 1.
        """
        levels = sorted(self.timesteps)
        self._scheduler.alphas_cumprod = self.alpha_bar[levels]
        self._scheduler.num_inference_steps = self._scheduler.config.num_train_timesteps
        self._named = {t: number for number, t in enumerate(levels)}

    def step(
        self,
        eps: Tensor,
        t: int,
        x_t: Tensor,
        generators: Sequence[torch.Generator],
        variance: Tensor | None = None,
    ) -> Tensor:
        """x~_{t-1} [B, C, H, W]; row b's noise comes from generators[b] alone, so rows do not know each other.

        variance  v [B, C, H, W] of a learned one: log sigma^2 = (1 + v)/2 log beta + (1 - v)/2 log beta~
        """
        if self._learned:
            if variance is None:
                raise ValueError("this chain needs the model's learned variance at every step")
            eps = torch.cat([eps, variance], dim=1)
        result = self._scheduler.step(eps, self._named[t], x_t, generator=list(generators), **self._arguments)
        x_prev: Tensor = result.prev_sample
        return x_prev

    def noised(self, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, all [B, C, H, W]."""
        alpha_bar = float(self.alpha_bar[t])
        x_t: Tensor = alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * noise
        return x_t

    def clean(self, x_t: Tensor, eps: Tensor, t: int) -> Tensor:
        """The estimate of x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t), all [B, C, H, W]."""
        alpha_bar = float(self._scheduler.alphas_cumprod[t])
        x_0: Tensor = (x_t - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
        return x_0
