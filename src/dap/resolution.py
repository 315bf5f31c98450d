"""What a configuration leaves open, decided: by the backbone, by free memory, or by the plan of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dap.backbones import Backbone, open_backbone, read_prompts
from dap.bank import Bank
from dap.config import Config, as_record
from dap.data import Source
from dap.errors import ConfigError
from dap.guidance import Guidance
from dap.memory import choose_micro_batch, reference_rows
from dap.plan import plan_chunks
from dap.record import versions
from dap.reference import FORMAT, Reference
from dap.sampling import Sampler
from dap.store import Store

COMPUTING = ("torch", "diffusers", "transformers", "pillow")  # packages whose versions may change a feature's last bit
CHUNK = 50  # images committed together when nobody names a number


def backbone_of(config: Config, class_names: tuple[str, ...]) -> Backbone:
    """The backbone that `[backbone]` describes; a text backbone is told the classes of the dataset."""
    b = config.backbone
    prompts = read_prompts(class_names, b.prompt, b.prompts, b.negative_prompt, config.run.ipc)
    how: dict[str, Any] = {"device": b.device, "dtype": b.dtype, "compile": b.compile, "vae_tiling": b.vae_tiling}
    backbone = open_backbone(b.name, arch=b.arch, vae=b.vae, prompts=prompts, **how)
    if config.data.class_map is not None and getattr(backbone, "prompts", None) is not None:
        raise ConfigError(
            f"{b.name} is told text and has no classes to map to; leave --class-map out and give prompts in a CSV "
            "class,prompt: --set backbone.prompts=FILE.csv"
        )
    return backbone


def resolved(config: Config, backbone: Backbone, out: Path, class_names: Sequence[str], couples: bool) -> Config:
    """The configuration with everything decided that determines the pixels.

    The micro-batch: what is named, else what the plan in `out` began with, else what fits and suits a new plan.
    Raises: ConfigError for a learned variance, or more channels, than the backbone has.
    """
    channels = config.backbone.cfg_channels
    if channels != "all" and int(channels) > backbone.latent_shape[0]:
        raise ConfigError(
            f"backbone.cfg_channels is {channels}; {backbone.name} has {backbone.latent_shape[0]}, use 'all'"
        )
    micro_batch = config.run.micro_batch or Store.micro_batch_in(out)
    chunk = config.run.chunk or max(CHUNK, micro_batch or 1)
    if micro_batch is None:
        plan = plan_chunks(class_names, config.run.ipc, config.run.seed, chunk=chunk, whole_classes=couples)
        micro_batch = choose_micro_batch(backbone, [len(planned.units) for planned in plan])
    run = replace(config.run, micro_batch=micro_batch, chunk=chunk)
    scale = backbone.cfg_scale if config.backbone.cfg_scale is None else config.backbone.cfg_scale
    sampling = replace(config.sampling, variance=_variance(config, backbone))
    return replace(config, run=run, sampling=sampling, backbone=replace(config.backbone, cfg_scale=scale))


def _variance(config: Config, backbone: Backbone) -> str:
    """As the original sampler does: learned where there is one to learn from and ddpm samples, else fixed."""
    sampling = config.sampling
    if sampling.variance == "learned" and not backbone.learned_variance:
        raise ConfigError(f"{backbone.name} has no learned variance; use --set sampling.variance=fixed")
    if sampling.variance is not None:
        return sampling.variance
    return "learned" if backbone.learned_variance and sampling.scheduler == "ddpm" else "fixed"


def real_images(source: Source, config: Config, backbone: Backbone) -> Source:
    """The real images as the guidance sees them, in the backbone's format."""
    source = source.with_format(size=backbone.image_size, mode=config.data.mode or backbone.image_mode)
    if source.mode != backbone.image_mode:
        raise ConfigError(f"data.mode is {source.mode!r}, but {backbone.name} works on {backbone.image_mode!r} images")
    return source


def reference_sizes(guidance: Guidance, ipc: int) -> tuple[int | None, int | None]:
    """How many real images of a class stand for it, as support points and by herding (`dap.support.supporting`).

    What the guidance says, but four for each image that is coupled: others depend neither on each other nor on how
    many there are. Where these are more than it says of either kind, they cover the class: so many images share it out,
    and the middle alone would leave none for what lies outside.
    """
    said = (getattr(guidance, name, None) for name in ("reference_size", "reference_herded"))
    count, herded = (size if isinstance(size, int) else None for size in said)
    least = 4 * ipc if guidance.couples else 0
    if count is not None and herded is not None and least > max(count, herded):
        return least, None
    return (None if count is None else max(count, least)), (None if herded is None else max(herded, least))


def decided(
    config: Config, backbone: Backbone, guidance: Guidance, sampler: Sampler, source: Source
) -> tuple[Guidance, Reference]:
    """The guidance with what it leaves to the real images, and these as it wants them.

    Raises: StoreError when the reference cache has no room.
    """
    reference = reference_of(config, backbone, guidance, sampler, source)
    if hasattr(guidance, "decided"):
        guidance = guidance.decided(reference)
        reference = reference_of(config, backbone, guidance, sampler, source)
    if reference.bank is not None:
        reference.bank.check_room(reference.shapes())
    return guidance, reference


def reference_of(config: Config, backbone: Backbone, guidance: Guidance, sampler: Sampler, source: Source) -> Reference:
    """The real images' features as the guidance wants them, kept in `[run] reference_cache` where that is named."""
    rows = reference_rows(backbone)
    seen = source, sampler.classes, sampler.chain
    reference = Reference.of(guidance, backbone, *seen, ipc=config.run.ipc, rows=rows)
    if config.run.reference_cache is not None and guidance.tap in backbone.taps():
        reference.bank = Bank(config.run.reference_cache, _recipe(config, reference), _classes(reference))
    return reference


def _recipe(config: Config, reference: Reference) -> dict[str, Any]:
    """All that determines the bits of the features of every class."""
    backbone, found = reference.backbone, versions()
    return {
        "format": FORMAT,
        "weights": backbone.weights_digest(),
        "device": backbone.device.type,
        "versions": {name: found[name] for name in COMPUTING if name in found},
        **{name: getattr(config.backbone, name) for name in ("dtype", "compile", "vae_tiling")},
        "tap": reference.tap,
        "pooling": as_record(reference.pooling),
        "timesteps": list(reference.chain.timesteps),
        "seed": reference.seed,
        "rows": reference.rows,
    }


def _classes(reference: Reference) -> list[dict[str, Any]]:
    """Of each class, what else determines its features: its images and its name, and what the backbone is told.

    And of the pool of negatives, which comes behind the last class: all that of every class it shows.
    """
    source, prompts = reference.source, getattr(reference.backbone, "prompts", None)
    told = reference.classes if prompts is None else [prompts.text(label) for label in reference.classes]
    rows = zip(source.class_names, source.class_digests, told, strict=True)
    classes = [{"name": name, "images": images, "condition": condition} for name, images, condition in rows]
    pool: list[dict[str, Any]] = [{"pool": [[classes[label], count] for label, count in reference.negative_pool]}]
    return classes + pool


def sampler_of(config: Config, backbone: Backbone, classes: tuple[int, ...], class_names: tuple[str, ...]) -> Sampler:
    """The loop's settings, from a configuration in which everything is decided."""
    s = config.sampling
    return Sampler(
        backbone=backbone,
        chain=backbone.chain(s.scheduler, s.steps, s.eta, s.variance or "fixed"),
        classes=classes,
        cfg_scale=config.backbone.cfg_scale or 1.0,
        cfg_channels=config.backbone.cfg_channels,
        micro_batch=config.run.micro_batch or 1,
        class_names=class_names,
        dtype=config.backbone.dtype,
    )
