"""A protocol in words, for `dap evaluate --list` and docs/protocols.md (a test compares the two)."""

from __future__ import annotations

from collections.abc import Sequence

from dap.evaluation.protocol import Protocol

_LABELS = {
    "hard": "hard, cross-entropy",
    "online": "a teacher's, of every mixed image; KL divergence, batch mean, T = {t:g}",
    "stored": "a teacher's, stored with crop, flip and CutMix, logits in fp16; KL divergence, batch mean, T = {t:g}",
}
_SCHEDULES = {
    "multistep": "x 0.2 at 2/3 and 5/6 of the epochs",
    "cosine": "cosine to 0, step by step",
    "cosine-by-epoch": "cosine to 0, epoch by epoch",
    "half-cosine-by-epoch": "half a cosine, epoch by epoch, to 50 % of the base rate",
}


def described(protocol: Protocol) -> list[tuple[str, str]]:
    """What it does, as (what, how) rows in the order in which it happens."""
    p = protocol
    decay = f"weight decay {p.weight_decay:g}" + ("" if p.decay_vectors else " on weights of more than one dimension")
    name = {"sgd": f"SGD, momentum {p.momentum:g}", "adamw": "AdamW, betas 0.9 and 0.999"}[p.optimiser]
    rates = [f"{family} {rate:g}" for family, rate in p.rates]
    return [
        ("for", p.summary),
        ("labels", _LABELS[p.labels].format(t=p.temperature)),
        ("optimiser", f"{name}, {decay}"),
        ("rate", ", ".join([f"{p.rate:g}", *rates]) + f"; {_SCHEDULES[p.schedule]}"),
        ("length", _length(p)),
        ("batch", _batch(p)),
        *([("above 100 classes", ", ".join(f"{k} {v:g}" for k, v in p.many_classes))] if p.many_classes else []),
        ("size", "the images' own" if p.size is None else f"{p.size} px"),
        ("training images", " -> ".join(_augmentation(p))),
        ("test images", _test(p)),
        ("network", p.network),
        ("evaluated", f"{p.evaluations} times, and at the end"),
    ]


def _length(p: Protocol) -> str:
    if not p.full_epochs:
        return f"{p.steps} steps, {p.full_steps} for the full data, of images drawn with replacement"
    rows = [f"{epochs} to IPC {most}" for most, epochs in p.epochs]
    whole = [f"{p.full_epochs} for more and for the full data" if rows else f"{p.full_epochs}"]
    fewer = f"; exactly {p.two_thirds_at} classes: 2/3 of them, in whole hundreds" if p.two_thirds_at else ""
    return "epochs: " + ", ".join(rows + whole) + fewer


def _batch(p: Protocol) -> str:
    if not p.batches:
        return f"{p.batch}, at most the set"
    rows = ", ".join(f"{batch} from IPC {least}" for least, batch in p.batches)
    return rows + (f"; doubled from {p.doubles_from} classes" if p.doubles_from else "") + "; at most the set"


def _augmentation(p: Protocol) -> Sequence[str]:
    out = []
    if p.shuffle:
        out.append(f"{p.shuffle} columns shuffled, then {p.shuffle} rows")
    if p.crop is not None:
        out.append(f"crop of area {p.crop[0]:g} to {p.crop[1]:g}")
    out += ["flip"] if p.flip else []
    out += [f"colour jitter {p.jitter:g}"] if p.jitter else []
    out += [f"PCA lighting {p.lighting:g}"] if p.lighting else []
    out += [f"shift by at most {p.shift} px"] if p.shift else []
    mean, sd = (", ".join(f"{value:g}" for value in row) for row in p.normalise)
    return [*out, f"normalise ({mean}; {sd})", *(["CutMix always, Beta(1, 1)"] if p.cutmix else [])]


def _test(p: Protocol) -> str:
    if p.test_crop == 1:
        return "resize and centre crop to the size"
    if p.size is None:
        return f"resize to 1/{p.test_crop:g} of the size and centre crop"
    return f"resize to {round(p.size / p.test_crop)} and centre crop to {p.size}"
