"""`Training`: one network on its way through a plan, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dap.backbones.computing import quiet_compiler
from dap.errors import ConfigError
from dap.evaluation.augment import normalise
from dap.evaluation.batches import COMPANY, Batches, Labelled, loss_of
from dap.evaluation.networks import count_parameters, has_batch_norm
from dap.evaluation.protocol import Protocol
from dap.evaluation.schedule import Plan


class Training:
    """A network on its way through a plan: all that the next step depends on, to be saved and gone on from.

    Build and use it inside `seeded`, whose global generator belongs to it.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        protocol: Protocol,
        plan: Plan,
        seed: int,
        device: torch.device,
        *,
        bf16: bool = False,
        compiled: bool = False,
    ) -> None:
        check_computing(device, bf16=bf16, compiled=compiled)
        if compiled:
            quiet_compiler()
        self.protocol, self.plan, self.device, self.bf16 = protocol, plan, device, bf16
        self.network = make().to(device)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if compiled else self.network
        self.optimiser = _optimiser(self.network, protocol, plan)
        self.generator = torch.Generator().manual_seed(seed)
        self.pairs = has_batch_norm(self.network)
        self.done = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        return (COMPANY,) if self.pairs and self.plan.leaves_one else ()

    def steps(self, train: Labelled, batches: Batches) -> Iterator[int]:
        """Trains; yields the number of every step that is done, from 0, or from where it was saved."""
        for batch in batches(train, self.protocol, self.plan, self.generator, pairs=self.pairs, done=self.done):
            for group in self.optimiser.param_groups:
                group["lr"] = self.plan.rate_at(self.done)
            self.optimiser.zero_grad()
            with self._precision():
                output = self.forward(batch.images)
            loss_of(batch, output.float(), self.protocol).backward()
            self.optimiser.step()
            self.done += 1
            yield self.done - 1

    def judge(self, test: Labelled, classes: int) -> Tensor:
        """`evaluate_network` of it as it is."""
        with self._precision():
            return evaluate_network(self.network, test, classes, self.protocol, self.forward)

    def state(self) -> dict[str, Any]:
        """All of it, at the end of an epoch."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generators": [self.generator.get_state(), torch.get_rng_state(), cuda],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`; the weights will be those of a run that never stopped."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        own, everybodys, cuda = state["generators"]
        self.generator.set_state(own)
        torch.set_rng_state(everybodys)
        if cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.device)
        self.done = state["done"]

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()


@torch.no_grad()
def evaluate_network(
    network: nn.Module,
    test: Labelled,
    classes: int,
    protocol: Protocol,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The confusion matrix, int64 [classes, classes] on the CPU: rows are true classes, columns what was
    said. `forward` is the compiled network, where there is one.
    """
    forward, was_training = forward or network, network.training
    network.eval()
    size = test.images.shape[-1]
    rows = min(512, max(16, 2**20 // size**2))  # bounds the memory of activations at 224 px
    parts = torch.split(test.images, rows)
    said = torch.cat([forward(normalise(part.float() / 255, protocol)).argmax(1) for part in parts])
    network.train(was_training)
    return torch.bincount(test.labels * classes + said, minlength=classes**2).view(classes, classes).cpu()


def check_computing(device: torch.device, *, bf16: bool, compiled: bool) -> None:
    """Raise ConfigError in one line when `device` cannot do what is asked: a small convolution is tried."""
    for flag, asked in (("--dtype bf16", bf16), ("--compile", compiled)):
        if not asked:
            continue
        trial = nn.Conv2d(3, 4, 3).to(device)
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=flag != "--compile"):
                (torch.compile(trial) if flag == "--compile" else trial)(torch.ones(1, 3, 8, 8, device=device))
        except Exception as error:  # a compiler may be missing in many ways
            why = str(error).strip().partition("\n")[0]
            raise ConfigError(f"{flag} cannot work on {device} here ({why}); leave it out") from None


def _optimiser(network: nn.Module, protocol: Protocol, plan: Plan) -> torch.optim.Optimizer:
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        kept = protocol.decay_vectors or ("weight" in name and weight.ndim > 1)
        (decaying if kept else others).append(weight)
    groups: list[dict[str, Any]] = [{"params": decaying}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    # fused: a third of the time on small networks
    if protocol.optimiser == "sgd":
        decay, momentum = plan.weight_decay, protocol.momentum
        return torch.optim.SGD(groups, plan.rate, momentum=momentum, weight_decay=decay, fused=True)
    return torch.optim.AdamW(groups, plan.rate, betas=(0.9, 0.999), weight_decay=plan.weight_decay, fused=True)


@contextmanager
def training_threads(network: nn.Module, train: Labelled, plan: Plan) -> Iterator[int]:
    """One CPU thread inside when a step is small: two gain little there, and on a busy machine cost tenfold.

    Small: by parameters x pixels of a batch, a rough count of a convolutional network's multiply-adds.
    """
    work = count_parameters(network) * plan.batch * train.images[0, 0].numel()
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < 1e9 else before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global generators seeded inside and as before outside; deterministic convolutions on a GPU."""
    forked = [device.index or 0] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before
