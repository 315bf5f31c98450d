"""`dap train`: progress with loss, images per second and time left."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from dap.commands.interrupting import Interruption
from dap.config import Config
from dap.data import open_dataset
from dap.terminal import Talk, duration, saving
from dap.train import train


def run_train(config: Config, out: Path, start: str | None, half: bool, talk: Talk) -> dict[str, Any]:
    """Trains, drawing progress; returns {"out", "steps", "loss", "images_per_second", "seconds"}."""
    began, data = time.perf_counter(), config.data
    source = open_dataset(data.source, split=data.split, subset=data.subset, mode=data.mode)
    talk.say(f"training on {sum(source.counts)} images of {len(source.class_names)} classes from {source.name}")
    loss, rate = None, 0.0
    state = out.expanduser() / "training" / "state.pt"
    kept = saving(lambda: "what was saved before is kept" if state.exists() else "nothing was saved yet")
    with kept, Interruption() as stop, talk.progress("train", config.train.steps) as meter:
        steps = train(
            source,
            out,
            config.train,
            start=start,
            vae=config.backbone.vae,
            device=config.backbone.device,
            half=half,
            on_bad_image=data.on_bad_image,
            on_check=lambda done, total: meter.at(done, "checking images", total=total),
            on_begin=partial(going_on, config.train.steps, talk),
            stop=stop,
        )
        for p in steps:
            loss, rate = p.loss, p.images_per_second
            meter.at(p.step, f"loss {loss:.4f}, {rate:.0f} images/s", total=p.steps)
            if p.samples is not None:
                talk.say(f"samples after step {p.step}: {p.samples}")
            if p.stopped:
                raise KeyboardInterrupt(f"saved after step {p.step} of {p.steps}")
    seconds = time.perf_counter() - began
    if loss is None:
        talk.say(f"{out} is finished already; to train on, use --from {out} and another --out")
    else:
        talk.say(f"wrote {out}: loss {loss:.4f}, {duration(seconds)}")
    return {
        "out": str(out),
        "steps": config.train.steps,
        "loss": loss,
        "images_per_second": rate,
        "seconds": round(seconds, 1),
    }


def going_on(steps: int, talk: Talk, taken: int) -> None:
    """Says where an earlier training is taken up; nothing of a new one."""
    if taken:
        talk.say(f"going on after step {taken} of {steps}")
