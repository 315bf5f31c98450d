"""Published accuracies, to be printed beside a result where data set, network, images per class and family match.

The two hard-label families (`hard-sgd`, `hard-adamw`) share cells in papers' tables though they differ by several
points; `family` says which one a value appears to come from, and no other family sees it. Published accuracies are the
best of 100 looks at ILSVRC's validation images, 50 a class.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from dap.data.imagenet import imagenet_wnids, is_wnid, subset_names, subset_wnids

_IMAGENET = "imagenet-1k"
_RESNET18 = ("torchvision:resnet18",)  # of the ImageNet-1K tables: the one with batch norm


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published accuracy: `mean` and `sd` (None: not given) are fractions, `ipc` images per class."""

    dataset: str
    networks: tuple[str, ...]
    ipc: int
    method: str
    mean: float
    sd: float | None
    family: str
    source: str

    def as_record(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {"method": self.method, "mean": self.mean, "sd": self.sd, "source": self.source}


def find_published(dataset: str | None, network: str, ipc: int | None, family: str) -> tuple[Published, ...]:
    """What papers report for this data set, network, images per class and protocol family; () when nothing matches.

    `ipc` None, the full data, finds the rows of full data.
    """
    found = [row for row in _table() if (row.dataset, row.family) == (dataset, family) and network in row.networks]
    if ipc is None:
        return tuple({row.method: row for row in found if row.method == "Full"}.values())
    return tuple(row for row in found if row.ipc == ipc)


def dataset_of(class_names: Sequence[str]) -> str | None:
    """The published data set that has exactly these classes, by wnid: imagenette, ..., imagenet-1k; None: no such."""
    names = set(class_names)
    if not all(map(is_wnid, names)):
        return None
    if len(names) == 1000:
        return _IMAGENET if names == set(imagenet_wnids()) else None
    return next((subset for subset in subset_names() if names == set(subset_wnids(subset))), None)


@cache
def _table() -> tuple[Published, ...]:
    rows = [_hard(row) for row in _rows("hard_label.csv")]
    return (*rows, *(_soft(row) for row in _rows("imagenet1k_resnet18.csv") if _family(row["protocol"])))


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("dap.evaluation.published") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _hard(row: Mapping[str, str]) -> Published:
    return Published(
        dataset=row["dataset"],
        networks=(row["network"].lower(),),
        ipc=int(row["ipc"]),
        method=row["method"],
        mean=round(float(row["top1_percent"]) / 100, 6),
        sd=round(float(row["std"]) / 100, 6),
        family=row["family"],
        source=row["source"],
    )


def _soft(row: Mapping[str, str]) -> Published:
    inferred = "" if row["protocol"] == _family(row["protocol"]) else ", protocol inferred from its baselines"
    return Published(
        dataset=_IMAGENET,
        networks=_RESNET18,
        ipc=int(row["ipc"]),
        method=row["method"],
        mean=round(float(row["top1_percent"]) / 100, 6),
        sd=None,
        family=_family(row["protocol"]),
        source=f"ImageNet-1K tables with a ResNet-18{inferred}",
    )


def _family(protocol: str) -> str:
    """ "soft-rded" of "soft-rded (by its baselines)"; "" of what was trained otherwise (500 epochs, another loss)."""
    match = re.fullmatch(r"(soft-[a-z]+)( \(by its baselines\))?", protocol)
    return match[1] if match else ""
