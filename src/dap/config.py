"""Settings: frozen dataclasses, read from TOML and `table.key=value` overrides; an unknown key is an error.

One dataclass a TOML table; the same names serve the file, `--set` and Python. `[guidance]` keeps what
it does not know for the guidance itself, whose options are the fields of its own dataclass.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dap.errors import ConfigError, unknown
from dap.fields import as_record, build, digest, parse_overrides, read_toml, require
from dap.metrics_config import MetricsConfig
from dap.train_config import TrainConfig

__all__ = [
    "BackboneConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "GuidanceConfig",
    "MetricsConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainConfig",
    "as_record",
    "build",
    "digest",
    "load_config",
    "require",
]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`[data]`: what is distilled.

    source        folder of class folders, parquet file or folder, `hf:owner/name`, `digits:train`
    split         train, test, ... where the source has several
    subset        a named subset of an ImageNet-style folder, e.g. imagenette
    mode          RGB or L; None: as many channels as the backbone has
    class_map     CSV `dataset_class,backbone_class` for classes whose names differ
    on_bad_image  fail or skip
    """

    source: str = ""
    split: str | None = None
    subset: str | None = None
    mode: str | None = None
    class_map: str | None = None
    on_bad_image: str = "fail"

    def __post_init__(self) -> None:
        require(self.mode in (None, "RGB", "L"), f"data.mode is {self.mode!r}; use 'RGB' or 'L'")
        known = ("fail", "skip")
        require(self.on_bad_image in known, f"on_bad_image is {self.on_bad_image!r}; use 'fail' or 'skip'")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """`[backbone]`: the pretrained diffusion model.

    name          `digits` (ships with dap), a diffusers pipeline directory, a hub id, or an original DiT `.pt`
    arch          of a `.pt`, e.g. DiT-XL/2
    vae           directory or hub id of a VAE for a pipeline that has none
    dtype         fp32, fp16 or bf16 of the diffusion model; guidance's energy and the VAE stay fp32
    device        auto, cpu, cuda, cuda:1, ...
    compile       torch.compile of the model's blocks; like the device, no part of the digest
    vae_tiling    decode large images in overlapping tiles: less memory, other pixels
    cfg_scale     classifier-free guidance, 1 = off; None: what the backbone's own record recommends
    cfg_channels  the channels it touches: 3 (the original DiT) or "all"
    prompt        of a text backbone: `a photo of a {name}`, the class's name or a wnid's synset string put in
    prompts       instead: a CSV `class,prompt` or `class,index,prompt`
    negative_prompt  what classifier-free guidance leads away from
    """

    name: str = "digits"
    arch: str | None = None
    vae: str | None = None
    dtype: str = "fp32"
    device: str = "auto"
    compile: bool = False
    vae_tiling: bool = False
    cfg_scale: float | None = None
    cfg_channels: int | str = "all"
    prompt: str | None = None
    prompts: str | None = None
    negative_prompt: str | None = None

    def __post_init__(self) -> None:
        require(
            self.cfg_scale is None or self.cfg_scale >= 1,
            f"backbone.cfg_scale is {self.cfg_scale}; 1 switches classifier-free guidance off, larger is stronger",
        )
        require(
            self.cfg_channels == "all" or (isinstance(self.cfg_channels, int) and self.cfg_channels >= 1),
            f"backbone.cfg_channels is {self.cfg_channels!r}; use 3 or 'all'",
        )


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """`[sampling]`: the reverse chain. `scheduler` ddpm or ddim, `steps` 1..1000, `eta` 0..1 (ddim's noise).

    variance  of ddpm's noise: fixed, or learned by the model as the original DiT samples; None: learned where it is
    """

    scheduler: str = "ddpm"
    steps: int = 50
    eta: float = 0.0
    variance: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler not in ("ddpm", "ddim"):
            raise ConfigError(unknown("scheduler", self.scheduler, ("ddpm", "ddim")))
        require(1 <= self.steps <= 1000, f"sampling.steps is {self.steps}; use 1 to 1000")
        require(0 <= self.eta <= 1, f"sampling.eta is {self.eta}; use 0 (deterministic) to 1")
        require(
            not (self.eta and self.scheduler == "ddpm"),
            "sampling.eta needs the ddim scheduler: --set sampling.scheduler=ddim",
        )
        known = (None, "fixed", "learned")
        require(self.variance in known, f"sampling.variance is {self.variance!r}; use 'fixed' or 'learned'")
        alone = self.variance == "learned" and self.scheduler != "ddpm"
        require(not alone, "sampling.variance 'learned' needs the ddpm scheduler: --set sampling.scheduler=ddpm")


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """`[guidance]`: `name` (none, dap, dap-paper, or `package.module:Class`) and that guidance's own options."""

    name: str = "dap"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """`[run]`: `ipc` images per class, `seed`; `chunk` images committed together, `micro_batch` rows per forward pass.

    None: by the model, on a CUDA GPU by its free memory; once, since it determines the last bits: kept with the plan.
    reference_cache  directory where the real images' features are kept for the next strength, seed or IPC
    """

    ipc: int = 10
    seed: int = 0
    chunk: int | None = None
    micro_batch: int | None = None
    reference_cache: str | None = None

    def __post_init__(self) -> None:
        fits = 1 <= self.ipc <= 5000
        require(fits, f"ipc is {self.ipc}; images per class must be 1 to 5000 (--ipc 10 is usual)")
        require(self.seed >= 0, f"run.seed is {self.seed}; use 0 or more")
        for name in ("chunk", "micro_batch"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"run.{name} is {value}; use 1 or more")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """`[evaluation]`: how sets are judged.

    protocol      hard-small, ...: `dap.PROTOCOLS`, or a .toml file of one's own
    networks      empty: the protocol's own
    repeats       training seeds 0 .. repeats - 1
    flip          mirror images in training; None: as the protocol does
    epochs_scale  times the protocol's length; anything but 1 marks the result "scaled"
    evaluations   looks at the test data in one run, of which "best" is the best; None: the protocol's. 1: only the last
    val_fraction  judge on this share of the training data instead of on the test data, when something is to be chosen
    teacher       for soft labels: a directory of dap teacher, torchvision:NAME, timm:NAME, or a file of weights
    teacher_network, teacher_classes  of bare weights: the network, and a file with the class of each output
    dtype         fp32, or bf16 autocast; `compile` by torch.compile
    """

    protocol: str = "hard-small"
    networks: tuple[str, ...] = ()
    repeats: int = 3
    flip: bool | None = None
    epochs_scale: float = 1.0
    evaluations: int | None = None
    val_fraction: float | None = None
    teacher: str | None = None
    teacher_network: str | None = None
    teacher_classes: str | None = None
    dtype: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        known = ("fp32", "bf16")
        require(self.dtype in known, f"evaluation.dtype is {self.dtype!r}; use 'fp32' or 'bf16'")
        require(self.repeats >= 1, f"evaluation.repeats is {self.repeats}; use 1 or more")
        looks = self.evaluations
        require(looks is None or looks >= 1, f"evaluation.evaluations is {looks}; use 1 (the last alone) or more")
        share = self.val_fraction
        require(
            share is None or 0 < share < 1,
            f"evaluation.val_fraction is {share}; use a number between 0 and 1, for example 0.1",
        )
        require(self.epochs_scale > 0, f"evaluation.epochs_scale is {self.epochs_scale}; use a number above 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All tables together; `load_config` reads one from TOML and overrides."""

    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    sampling: SamplingConfig = SamplingConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    run: RunConfig = RunConfig()
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    metrics: MetricsConfig = field(default_factory=MetricsConfig)


def load_config(path: str | Path | None = None, overrides: Iterable[str] = (), **tables: Mapping[str, Any]) -> Config:
    """The configuration of a TOML file, then `table.key=value` overrides, then keyword tables; later wins.

    Raises: ConfigError for a missing or malformed file, an unknown table or key, a value of the wrong type.
    """
    merged: dict[str, dict[str, Any]] = {}
    known = {f.name for f in fields(Config)}
    for layer in (read_toml(path), parse_overrides(overrides), tables):
        for table, values in layer.items():
            require(table in known, unknown("config table", table, known))
            require(isinstance(values, Mapping), f"{table} is {values!r}; it is a table of settings, e.g. [{table}]")
            merged.setdefault(table, {}).update(values)
    types_of = typing.get_type_hints(Config)
    if "guidance" in merged:  # its options belong to the guidance, which checks them when it is loaded
        options = dict(merged["guidance"])
        merged["guidance"] = {"name": options.pop("name", "dap"), "options": {**options.pop("options", {}), **options}}
    return Config(**{table: build(types_of[table], values, table) for table, values in merged.items()})
