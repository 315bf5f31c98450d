"""What all tests share: no network, tiny models, and one way to sample."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: it reads this once

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dap.guidance import Guidance
from dap.guidance.base import settled
from dap.reference import Reference
from dap.sampling import Guided, Sampler, trajectory
from dap.testing import tiny_dit, tiny_source
from dap.types import Unit

torch.set_num_threads(1)  # tiny models: a second thread only spins, and beside other work it costs ten times the time


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trainings are kept in a folder of the test run, and below in one of each test: none finds another's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _autograd_is_left_as_it_was() -> Any:
    assert torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled()


@dataclass
class Bench:
    """A backbone, a chain, random real images, and `sample`."""

    sampler: Sampler
    source: Any

    def reference(self, tap: str = "block.1", rows: int = 3, **options: Any) -> Reference:
        s = self.sampler
        return Reference(s.backbone, self.source, s.classes, s.chain, tap=tap, rows=rows, **options)

    def guided(self, guidance: Guidance, reference: Reference | None = None) -> Guided:
        s = self.sampler
        guidance = settled(guidance.resolved(s.backbone), s.backbone, 1, len(s.chain.timesteps))
        reference = reference or Reference.of(guidance, s.backbone, self.source, s.classes, s.chain, rows=3)
        shift = guidance.prepare(s.backbone, reference)
        return Guided(shift=shift, tap=guidance.tap, interval=guidance.interval)

    def sample(self, units: Sequence[Unit], guided: Guided | Guidance | None = None, **changes: Any) -> Tensor:
        """x_0 of `units`; `changes` to the sampler."""
        if guided is not None and not isinstance(guided, Guided):
            guided = self.guided(guided)
        return list(trajectory(replace(self.sampler, **changes), units, guided))[-1].x

    def first(self, units: Sequence[Unit], guided: Guided | None = None, **changes: Any) -> Tensor:
        """x after the first step."""
        return next(trajectory(replace(self.sampler, **changes), units, guided)).x


@pytest.fixture(scope="session")
def bench() -> Callable[..., Bench]:
    """bench(backbone=None, scheduler="ddim", steps=4, eta=0, micro_batch=4, ...) -> Bench."""

    def make(
        backbone: Any = None, scheduler: str = "ddim", steps: int = 4, eta: float = 0.0, real: int = 5, **options: Any
    ) -> Bench:
        backbone = tiny_dit() if backbone is None else backbone
        settings = {"cfg_scale": 1.0, "cfg_channels": "all", "micro_batch": 4, **options}
        classes = tuple(range(len(backbone.class_names)))
        chain = backbone.chain(scheduler, steps, eta)
        source = tiny_source(backbone.class_names, real, backbone.image_size, backbone.image_mode)
        return Bench(Sampler(backbone=backbone, chain=chain, classes=classes, **settings), source)

    return make


@pytest.fixture(scope="session")
def units() -> Callable[..., list[Unit]]:
    """units(labels, count): `count` images of each label, each with a seed of its own."""
    return lambda labels, count: [Unit(label, i, 1000 * label + i) for label in labels for i in range(count)]
