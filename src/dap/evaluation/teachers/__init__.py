"""Teachers for soft labels: trained networks that answer in the data's label order, whatever their own.

    dap teacher's directory | torchvision:NAME | timm:NAME | weights as .safetensors | weights as .pt

Classes are matched by name, never by position: a teacher of as many classes must have the same names, one of
ImageNet's 1,000 has its logits restricted to the data's wnids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dap.config import digest
from dap.data.classes import match_classes
from dap.data.imagenet import imagenet_wnids
from dap.errors import DataError, unknown
from dap.evaluation.networks.architecture import Resize
from dap.evaluation.protocol import Normalisation
from dap.evaluation.teachers.weights import (
    Pretrained,
    fetch_pretrained,
    is_pretrained_name,
    read_classes,
    read_file,
    read_teacher,
)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained network that reads a protocol's images.

    name     as the user wrote it
    network  images float32 [B, 3, s, s], any s, normalised as the protocol says -> logits [B, classes] in the data's
             label order; in evaluation mode, without gradients
    digest   of its weights and of how it reads and answers
    record   fit for JSON
    """

    name: str
    network: nn.Module
    digest: str
    record: dict[str, Any]


def open_teacher(
    spec: str,
    class_names: Sequence[str],
    *,
    size: int,
    normalise: Normalisation,
    network: str | None = None,
    classes: str | None = None,
) -> Teacher:
    """The teacher that `spec` names, for data of these classes, in label order.

    size       side of the data's images in pixels, and `normalise`, how they are normalised; a teacher that was
               trained otherwise has them resized and renormalised for it; bare weights are taken to agree
    network    what bare weights are the weights of
    classes    text file with the class of each output of bare weights, one a line

    Raises: ConfigError, DataError, StoreError: what cannot be read, does not fit, or knows other classes.
    """
    path, names = Path(spec).expanduser(), None if classes is None else read_classes(classes)
    if is_pretrained_name(spec):
        found = fetch_pretrained(spec)
    elif path.is_dir():
        found = read_teacher(path)
    elif path.is_file():
        found = read_file(path, network, names, size, normalise)
    else:
        kinds = ("a directory of dap teacher", "torchvision:NAME", "timm:NAME", "a .safetensors or .pt file")
        raise DataError(f"there is no teacher {spec!r}; give {', '.join(kinds)}")
    outputs = match_outputs(found.class_names, class_names, spec)
    reader = _Reader(found, normalise, outputs).eval().requires_grad_(False)
    facts = {"name": spec, "size": found.size, "normalise": found.normalise, "classes": len(found.class_names)}
    return Teacher(
        name=spec,
        network=reader,
        digest=digest([_content(found.network), found.size, found.normalise, outputs, normalise]),
        record={**facts, **found.origin},
    )


def match_outputs(teacher: Sequence[str], data: Sequence[str], spec: str) -> tuple[int, ...]:
    """For each class of the data the teacher's output. Raises: DataError when their classes are not the same."""
    if set(data) == set(teacher) and len(data) == len(teacher):
        return tuple(teacher.index(name) for name in data)
    if set(teacher) == set(imagenet_wnids()):
        try:
            return match_classes(data, teacher)
        except DataError:
            known = set(teacher)
            others = [name for name in data if name not in known]
            raise DataError(
                f"teacher {spec!r} knows ImageNet's 1,000 classes, the data have {others[0]!r}; name the class folders "
                "by their wnids (n01440764), or train a teacher on these data: dap teacher DATA --out DIR"
            ) from None
    lacking = [name for name in data if name not in set(teacher)]
    what = f": {unknown('class', lacking[0], teacher)}" if lacking else ""
    raise DataError(
        f"teacher {spec!r} knows {len(teacher)} classes, the data have {len(data)}{what}; use one of the same classes"
    )


class _Reader(nn.Module):
    """Renormalises, resizes, asks, and picks outputs; each only where it changes something."""

    scale: Tensor
    offset: Tensor
    outputs: Tensor

    def __init__(self, found: Pretrained, normalise: Normalisation, outputs: tuple[int, ...]) -> None:
        super().__init__()
        (mean, sd), (own_mean, own_sd) = (tuple(map(torch.tensor, pair)) for pair in (normalise, found.normalise))
        self.register_buffer("scale", (sd / own_sd).view(1, -1, 1, 1))
        self.register_buffer("offset", ((mean - own_mean) / own_sd).view(1, -1, 1, 1))
        self.register_buffer("outputs", torch.tensor(outputs))
        self.network, self.resize = found.network, Resize(found.size)
        self.renormalises = normalise != found.normalise
        self.picks = outputs != tuple(range(len(found.class_names)))

    def forward(self, x: Tensor) -> Tensor:
        if self.renormalises:
            x = x * self.scale + self.offset
        if x.shape[-1] != self.resize.side:
            x = self.resize(x)
        logits: Tensor = self.network(x)
        return logits[:, self.outputs] if self.picks else logits


def _content(network: nn.Module) -> str:
    """sha256 of all weights and running statistics."""
    total = sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
