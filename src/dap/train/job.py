"""One training as a job: check, claim the directory, go on where it stopped, save.

OUT/                 the finished pipeline directory (see dap.train.model), and while it is being made:
OUT/training/        config.json  what is trained on what: another configuration refuses
                     state.pt     weights, EMA, optimiser and step, replaced every `save_every` steps
                     samples/     a grid of samples now and then
                     loss.csv     step, loss, images per second
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dap.backbones import CHECKPOINTS, EMBEDDED, directory_of, open_backbone, pick_device, pipeline_class
from dap.backbones.dit import DiTBackbone, load_part
from dap.config import TrainConfig, as_record, digest
from dap.data import Source
from dap.disk import refusals, write_whole
from dap.errors import BackboneError, DataError, StoreError
from dap.train.claim import claim
from dap.train.diffusion import Progress, Trainer, run
from dap.train.model import LINEAR_BETAS, new_dit, save_pipeline, with_label_table
from dap.train.samples import Parts, sample_grid

SAVE_SECONDS = 300  # a slow machine saves more often than every `save_every` steps; when does not matter to the weights


def train(
    data: Source,
    out: str | Path,
    config: TrainConfig,
    *,
    start: str | None = None,
    vae: str | None = None,
    device: str = "auto",
    half: bool = False,
    on_bad_image: str = "fail",
    on_check: Callable[[int, int], None] | None = None,
    on_begin: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Progress]:
    """Trains a DiT on `data` and writes a pipeline directory to `out`; yields `Progress` every few steps.

    start         a DiT pipeline to go on from; its label table is fitted to the classes of `data` by name
    vae           directory of a VAE: diffusion then runs in its latent space, else on pixels
    half          write the final weights as fp16 (half the file; they are loaded as float32 all the same)
    on_bad_image  "fail", or "skip" what cannot be read (listed in dap.json)
    on_check      called with (images read, images in all) while they are checked
    on_begin      called before the first step with how many were taken earlier, 0 of a new training
    stop          asked after every step; True saves and ends, to go on another time

    Running it again with the same arguments goes on from the last saved step, and the final weights are those of an
    uninterrupted run on the same machine with as many threads; a finished one is left as it is.
    Raises: StoreError when `out` holds another training or something else; DataError, ConfigError, BackboneError.
    """
    out, device = Path(out).expanduser(), pick_device(device)
    begun = None if start is None else _open_dit(start, vae)
    if begun is not None:
        data = data.with_format(mode=begun.image_mode)
    config = replace(config, size=config.size or (begun.image_size if begun else _common_side(data)))
    data = data.with_format(size=config.size).checked(on_bad_image, on_check)
    what = {"train": as_record(config), "data": data.digest, "from": start, "vae": vae, "half": half}
    work = claim(out, what)
    if (out / "model_index.json").exists():
        return
    trainer, parts = _begin(data, config, begun, vae, device)
    _go_on(trainer, work)
    if on_begin is not None:
        on_begin(trainer.step)
    for progress in run(trainer, stop):
        with refusals(work):
            progress = _record(progress, trainer, parts, work)
        yield progress
    if trainer.step < config.steps:
        return
    trained = {**what, "skipped": [key for key, _ in data.skipped]}
    began = begun is None or begun.from_scratch
    _finish(out, trainer, parts, trained, torch.float16 if half else torch.float32, from_scratch=began)
    (work / "state.pt").unlink(missing_ok=True)


def _open_dit(start: str, vae: str | None) -> DiTBackbone:
    """The pipeline to go on from; what else it may be is told before its gigabytes are read."""
    known = EMBEDDED.get(start)
    if known is None and Path(start).suffix not in CHECKPOINTS:
        kind = pipeline_class(directory_of(start))
        if kind != "DiTPipeline":
            raise BackboneError(f"{start} is a {kind}; dap train goes on from a DiT pipeline, as `dap train` writes it")
    begun = open_backbone(start, vae=vae, device="cpu")
    if not isinstance(begun, DiTBackbone):
        raise BackboneError(f"{start} is not a DiT; dap train goes on from a DiT pipeline directory")
    return begun


def _finish(
    out: Path,
    trainer: Trainer,
    parts: Parts,
    trained: dict[str, Any],
    dtype: torch.dtype,
    *,
    from_scratch: bool,
) -> None:
    """Saves the averaged weights as a pipeline, with how they were trained."""
    trained = trained | {"digest": digest(trained), "images": len(trainer.x_0), "seconds": round(trainer.seconds, 1)}
    trainer.model.load_state_dict(trainer.ema)
    with refusals(out):
        save_pipeline(
            out,
            trainer.model,
            parts.class_names,
            record={
                "cfg_scale": trainer.config.cfg_scale,
                "tap": trainer.config.tap,
                "from_scratch": from_scratch,
                "training": trained,
            },
            scheduler=parts.scheduler,
            vae=parts.vae_directory,
            dtype=dtype,
        )


def _common_side(data: Source) -> int:
    """The side of the data's images where all are square and agree; DataError asks for a size where not."""
    sizes: dict[tuple[int, int], str] = {}
    for label, keys in enumerate(data.keys):
        for key in keys:
            with Image.open(io.BytesIO(data.read_bytes(label, key))) as image:  # the header alone
                sizes.setdefault(image.size, data.title(label, key))
            (width, height), *others = sizes
            if width != height or others:
                (a, one), *rest = sizes.items()
                two = f", {rest[0][1]!r} {rest[0][0][0]}x{rest[0][0][1]}" if rest else ""
                raise DataError(f"{one!r} has {a[0]}x{a[1]} px{two}: say the training size, e.g. --size 32")
    return next(iter(sizes))[0]


def _begin(
    data: Source, config: TrainConfig, begun: DiTBackbone | None, vae: str | None, device: str
) -> tuple[Trainer, Parts]:
    """Model, data in the model's space, and schedule, at step 0."""
    parts = _parts(data, begun, vae)
    x_0, labels = _load(data, parts.vae, device)
    channels, size = int(x_0.shape[1]), int(x_0.shape[2])
    if begun is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = new_dit(config, channels=channels, size=size, classes=len(data.class_names))
    else:
        if begun.latent_shape != (channels, size, size):
            raise DataError(
                f"{begun.name} works on {begun.latent_shape}, these images give {(channels, size, size)}; "
                f"use --set train.size={begun.image_size} and the same colour mode"
            )
        model = with_label_table(begun.transformer.requires_grad_(True), begun.class_names, data.class_names)
    from diffusers import DDPMScheduler

    alpha_bar = DDPMScheduler.from_config(parts.scheduler).alphas_cumprod
    return Trainer(model, x_0, labels, config, alpha_bar, device), parts


def _parts(data: Source, begun: DiTBackbone | None, vae: str | None) -> Parts:
    if begun is not None:
        directory = directory_of(vae or begun.name) if begun.vae is not None else None
        return Parts(data.class_names, dict(begun.schedule), begun.vae, directory)
    if vae is None:
        return Parts(data.class_names, {**LINEAR_BETAS, "clip_sample": True})
    from diffusers import AutoencoderKL

    where = directory_of(vae)
    model = load_part(AutoencoderKL, where, "vae" if (where / "vae").is_dir() else "")
    return Parts(data.class_names, {**LINEAR_BETAS, "clip_sample": False}, model.eval().requires_grad_(False), where)


def _load(data: Source, vae: Any, device: str) -> tuple[Tensor, Tensor]:
    """All images: uint8 pixels [N, c, s, s], or float32 latents; and labels [N]."""
    images = torch.cat([data.images(label) for label in range(len(data.class_names))])
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(data.counts)])
    if vae is None:
        return images, labels
    if images.shape[1] != vae.config.in_channels:
        raise DataError(
            f"the VAE takes {vae.config.in_channels} channels, {data.name} has {images.shape[1]}; set data.mode=RGB"
        )
    vae = vae.to(device)
    with torch.no_grad():
        parts = [
            vae.encode(part.to(device).float() / 127.5 - 1).latent_dist.mode() * vae.config.scaling_factor
            for part in images.split(16)
        ]
    return torch.cat(parts), labels


def _record(progress: Progress, trainer: Trainer, parts: Parts, work: Path) -> Progress:
    """Writes what is due at this step: the loss line, the sample grid, the state."""
    config, last = trainer.config, progress.step == trainer.config.steps
    with (work / "loss.csv").open("a", encoding="utf-8") as log:
        log.write(f"{progress.step},{progress.loss:.6f},{progress.images_per_second:.1f}\n")
    if progress.step % config.sample_every == 0 or last:
        path = work / "samples" / f"{progress.step:07d}.png"
        progress = replace(progress, samples=sample_grid(trainer, parts, path))
    late = time.monotonic() - trainer.saved_at > SAVE_SECONDS
    if progress.step % config.save_every == 0 or last or late or progress.stopped:
        trainer.saved_at = time.monotonic()
        stream = io.BytesIO()
        torch.save(trainer.state(), stream)
        write_whole(work / "state.pt", stream.getvalue())
    return progress


def _go_on(trainer: Trainer, work: Path) -> None:
    """From the saved step, where there is one."""
    if (work / "state.pt").exists():
        trainer.restore(_load_state(work / "state.pt"))
    _keep_losses(work / "loss.csv", trainer.step)


def _keep_losses(path: Path, step: int) -> None:
    """Drops the lines behind the saved step: a killed run wrote them, and they will be written again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step]
    write_whole(path, "".join(f"{line}\n" for line in kept).encode())


def _load_state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        raise StoreError(f"{path} is damaged; delete it to train from the start") from None
    return state
