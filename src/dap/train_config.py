"""`[train]`: the settings of `dap train`; `dap.config` has them with the other tables."""

from __future__ import annotations

from dataclasses import dataclass

from dap.fields import require


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`[train]`: a class-conditional DiT. Lengths in images or steps, `rate` AdamW's peak learning rate.

    size          side of the training images in pixels; None: the images' own where they agree
    schedule      cosine (to 0) or constant, both after `warmup` steps
    patch         side of a token in pixels (or latents); None: size / 8 (or the next divisor), 64 tokens
    clip          largest gradient norm
    ema           decay of the averaged weights that are saved
    label_dropout share of rows trained without their label, so that classifier-free guidance works
    flip          mirror images at random: not for digits or text
    cfg_scale     recommended scale, recorded with the checkpoint
    tap           recommended tap of the guidance, likewise; None: block 0.28 x depth
    dtype         fp32, or bf16 autocast; None: bf16 on a GPU, fp32 on a CPU
    compile       torch.compile of the blocks
    """

    steps: int = 10_000
    batch: int = 64
    rate: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 200
    weight_decay: float = 0.0
    clip: float = 1.0
    size: int | None = None
    width: int = 128
    depth: int = 6
    heads: int = 4
    patch: int | None = None
    ema: float = 0.999
    label_dropout: float = 0.1
    flip: bool = True
    seed: int = 0
    save_every: int = 1000
    sample_every: int = 1000
    cfg_scale: float = 1.0
    tap: str | None = None
    dtype: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width", "depth", "heads", "save_every", "sample_every"):
            require(getattr(self, name) >= 1, f"train.{name} is {getattr(self, name)}; use 1 or more")
        whole = self.width % self.heads == 0
        require(whole, f"train.width {self.width} is not a multiple of train.heads {self.heads}")
        require(self.patch is None or self.patch >= 1, f"train.patch is {self.patch}; use 1 or more")
        require(self.width % 4 == 0, f"train.width is {self.width}; use a multiple of 4, for the position embedding")
        require(
            self.schedule in ("cosine", "constant"),
            f"train.schedule is {self.schedule!r}; use 'cosine' or 'constant'",
        )
        known = (None, "fp32", "bf16")
        require(self.dtype in known, f"train.dtype is {self.dtype!r}; use 'fp32' or 'bf16', or leave it out")
        require(0 <= self.label_dropout < 1, f"train.label_dropout is {self.label_dropout}; use 0 to below 1")
        require(0 <= self.ema < 1, f"train.ema is {self.ema}; use 0 to below 1")
        require(self.rate > 0 and self.clip > 0, "train.rate and train.clip must be above 0")
