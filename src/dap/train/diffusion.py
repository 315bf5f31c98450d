"""The training loop of a class-conditional DiT: noise prediction (DDPM, Ho et al. 2020, eq. 14).

Every step draws its own seed, so a training that goes on from a saved state ends where an uninterrupted one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from dap.backbones.computing import Computing, compile_blocks
from dap.config import TrainConfig
from dap.errors import SamplingError

LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: `loss` is the mean since the last report, `samples` the grid just written, if any.

    stopped  whether this is the last of a training that was asked to stop: it is saved
    """

    step: int
    steps: int
    loss: float
    images_per_second: float
    samples: Path | None = None
    stopped: bool = False


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of step 0 .. steps - 1: linear warm-up, then constant or half a cosine to 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps)) if config.schedule == "cosine" else 1.0
    return config.rate * warm * fall


def ema_decay(config: TrainConfig, step: int) -> float:
    """The averaging decay of a step; small at first, so that the first weights are soon forgotten."""
    return min(config.ema, (1 + step) / (10 + step))


class Trainer:
    """Model, averaged model and optimiser, one step at a time. x_0 [N, C, H, W] is in the backbone's own space.

    x_0 may be uint8 pixels (scaled to [-1, 1] batch by batch) or float latents; labels int64 [N].
    """

    def __init__(
        self, model: Any, x_0: Tensor, labels: Tensor, config: TrainConfig, alpha_bar: Tensor, device: str
    ) -> None:
        self.config, self.device, self.step, self.seconds = config, torch.device(device), 0, 0.0
        self.saved_at = time.monotonic()
        self.model = model.to(self.device).train()
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.x_0, self.labels = x_0.to(self.device), labels.to(self.device)
        self.alpha_bar = alpha_bar.to(self.device)
        self.null = int(model.config.num_embeds_ada_norm)
        self.bf16 = config.dtype == "bf16" or (config.dtype is None and self.device.type == "cuda")
        Computing(dtype="bf16" if self.bf16 else "fp32", device=device, compile=config.compile).checked()
        if config.compile:
            compile_blocks(self.model.transformer_blocks)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )

    def advance(self) -> Tensor:
        """One step; returns its loss, a detached scalar."""
        config = self.config
        x_0, labels, t, noise = self._batch()
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.model(x_t, timestep=t, class_labels=labels).sample[:, : x_0.shape[1]]
        loss = mse_loss(out.float(), noise)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        decay = ema_decay(config, self.step)
        for key, value in self.model.state_dict().items():
            self.ema[key].lerp_(value.detach(), 1 - decay)
        self.step += 1
        return loss.detach()

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_0, labels (some dropped to the null class), timesteps and noise of this step, from this step's own seed."""
        config, size = self.config, self.config.batch
        seed = int.from_bytes(blake2b(f"{config.seed}/{self.step}".encode(), digest_size=7).digest())
        draw = torch.Generator(self.device).manual_seed(seed)
        where: dict[str, Any] = {"generator": draw, "device": self.device}
        rows = torch.randint(len(self.x_0), (size,), **where)
        x_0 = self.x_0[rows]
        x_0 = x_0.float() / 127.5 - 1 if x_0.dtype == torch.uint8 else x_0
        if config.flip:
            mirrored = torch.rand(size, **where) < 0.5
            x_0 = torch.where(mirrored.view(-1, 1, 1, 1), x_0.flip(-1), x_0)
        dropped = torch.rand(size, **where) < config.label_dropout
        labels = torch.where(dropped, self.null, self.labels[rows])
        t = torch.randint(len(self.alpha_bar), (size,), **where)
        return x_0, labels, t, torch.randn(x_0.shape, **where)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, tensors and plain numbers only."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a state saved by `state`."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.model.load_state_dict(state["model"])
        self.ema = {k: v.to(self.device) for k, v in state["ema"].items()}
        self.optimiser.load_state_dict(state["optimiser"])


def run(trainer: Trainer, stop: Callable[[], bool] | None = None) -> Iterator[Progress]:
    """Steps to the end, or until `stop` says so, reporting every few; SamplingError when the loss is no number."""
    config, losses, since, stopped = trainer.config, [], time.perf_counter(), False
    while trainer.step < config.steps and not stopped:
        losses.append(trainer.advance())
        due = (LOG_EVERY, config.save_every, config.sample_every)
        stopped = trainer.step < config.steps and stop is not None and stop()
        if any(trainer.step % every == 0 for every in due) or trainer.step == config.steps or stopped:
            loss = float(torch.stack(losses).mean())
            if not math.isfinite(loss):
                raise SamplingError(f"the loss is {loss} at step {trainer.step}; {_remedy(trainer)}")
            seconds = time.perf_counter() - since
            trainer.seconds += seconds
            rate = len(losses) * config.batch / seconds
            yield Progress(trainer.step, config.steps, loss, rate, stopped=stopped)
            losses, since = [], time.perf_counter()


def _remedy(trainer: Trainer) -> str:
    """What to type when the loss is no number: compiled bf16 gave NaN on a processor where it did not when eager."""
    lower = f"lower --set train.rate={trainer.config.rate / 3:g}"
    if trainer.bf16 and trainer.config.compile and trainer.device.type == "cpu":
        return f"compiled bf16 fails on some processors: use --set train.dtype=fp32; or {lower}"
    return lower
