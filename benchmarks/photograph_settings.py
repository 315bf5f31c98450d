"""What `photographs.py` runs where: data, sizes, networks, candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dap.guidance import PRESETS

REAL = ("random", "herding", "kmeans")
MIDDLES = ("mean image", "median image")  # of a class: no generator, nothing drawn
MAIN = (*REAL, "unguided", "dap-paper", "dap")
SECOND = ", second backbone"  # behind a method's name: its sets come from a backbone of training seed 1
PLAIN: dict[str, Any] = {"name": "dap", "contrast": 0.0}
WHOLE: dict[str, Any] = {**PLAIN, "reference": "class", "repulsion": 1.0}
BEFORE: dict[str, Any] = {"name": "dap", "reference_size": 96, "start": 1.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "auto, clusters, repulsion 1": {**PLAIN, "repulsion": 1.0},
    "auto, clusters, repulsion 0": {**PLAIN, "repulsion": 0.0},
    "auto, repulsion 1": WHOLE,
    "auto, RBF-MMD": {**WHOLE, "kernel": "rbf", "power": 2},
}
GUIDED: dict[str, dict[str, Any]] = {
    "dap": {"name": "dap"},
    **VARIANTS,
    "dap, support points": {"name": "dap", "reference_size": 96},
    "former dap": BEFORE,
    "former dap, all steps but the last": {**BEFORE, "interval": (0.0, 1.0)},
}
BEFORE_PLAIN: dict[str, Any] = {**BEFORE, "contrast": 0.0}
BEFORE_WHOLE: dict[str, Any] = {**BEFORE_PLAIN, "reference": "class", "repulsion": 1.0}
GAMMAS, STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (0.03, 0.1, 0.3)
CANDIDATES: dict[str, dict[str, Any]] = {
    "unguided": {"name": "none"},
    **{f"dap-paper, gamma {g:g}": {"name": "dap-paper", "gamma": g} for g in GAMMAS},
    **GUIDED,
    "former dap, auto, clusters, repulsion 1": {**BEFORE_PLAIN, "repulsion": 1.0},
    "former dap, auto, repulsion 1": BEFORE_WHOLE,
    "former dap, auto, RBF-MMD": {**BEFORE_WHOLE, "kernel": "rbf", "power": 2},
    **{f"former dap, strength {s:g}, repulsion 1": {**BEFORE_WHOLE, "strength": s} for s in STRENGTHS},
    "former dap, strength 0.3, repulsion 0": {**BEFORE_WHOLE, "strength": 0.3, "repulsion": 0.0},
}
OLD: dict[str, Any] = {**PRESETS["dap"], **BEFORE, "reference_herded": None}
FORMER: dict[str, Any] = {**OLD, "name": "divided:Divided", "repulsion": 1.0}
SPARSE: dict[str, Any] = {**OLD, "name": "divided:Sparse", "interval": (0.0, 1.0)}
BLURRED: dict[str, Any] = {**OLD, "name": "divided:Blurred"}
REMEDIES: dict[str, dict[str, Any]] = {
    **{f"dap, {n} herded": {"name": "dap", "reference_herded": n} for n in (48, 80, 200)},
    "dap, 24 support points": {"name": "dap", "reference_size": 24},
    **{f"dap, start {x:g}".replace("0.", "."): {"name": "dap", "start": x} for x in (0.1, 0.2, 0.3, 0.5)},
    **{f"former dap, from real images at {x:g}": {**BEFORE, "start": x} for x in (0.3, 0.5, 0.7, 0.9)},
    **{f"former dap, from mean images at {x:g}": {**BLURRED, "start": x} for x in (0.5, 0.7, 0.9)},
    **{
        f"former dap, repulsion {x:g}".replace("0.", "."): {**BEFORE, "repulsion": x}
        for x in (0.0, 0.15, 0.3, 0.5, 0.7)
    },
    "former dap, repulsion .7, all steps but the last": {**BEFORE, "repulsion": 0.7, "interval": (0.0, 1.0)},
    **{f"former dap, {n} real images": {**BEFORE, "reference_size": n} for n in (384, 480)},
    "former dap, clusters of features": {**OLD, "name": "divided:Divided", "rows": "features", "equal": True},
    **{f"former dap, reach {r:g}": {**BEFORE, "reach": r} for r in (0.3, 1.0, 2.0, 4.0)},
    "former dap, beyond 1": {**BEFORE, "beyond": 1.0},
    "former dap, beyond 1, reach 4": {**BEFORE, "beyond": 1.0, "reach": 4.0},
    "former dap, beyond 16, reach 4": {**BEFORE, "beyond": 16.0, "reach": 4.0},
    "former dap, contrast 0": {**BEFORE, "contrast": 0.0},
    "former dap, steps .2 to 1": {**BEFORE, "interval": (0.2, 1.0)},
    **{f"former dap, every second of all steps, reach {r:g}": {**SPARSE, "reach": r} for r in (0.5, 1.0)},
    "former dap, cfg 2.5": {**BEFORE, "cfg_scale": 2.5},
    "k-means clusters": FORMER,
    "k-means clusters, repulsion 0": {**FORMER, "repulsion": 0.0},
    "k-means clusters, repulsion .5": {**FORMER, "repulsion": 0.5},
    "k-means clusters of features": {**FORMER, "rows": "features"},
    "k-means clusters, steps .2 to 1": {**FORMER, "interval": (0.2, 1.0)},
    "k-means clusters, reach 1": {**FORMER, "reach": 1.0},
    "k-means clusters, 40 real images": {**FORMER, "reference_size": 40},
    "k-means clusters, 384 real images": {**FORMER, "reference_size": 384},
    "k-means clusters, the last step too": {**FORMER, "interval": (0.5, 2.0)},
    "k-means clusters, beyond 1": {**FORMER, "beyond": 1.0},
    "k-means clusters, tap auto": {**FORMER, "tap": "auto"},
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is run where. networks: name -> share of the protocol's epochs; test_images: None for all of them.

    choose_ipcs, choose_seeds  of the stages `choose` and `remedies`; IPC 1 wants another gamma than IPC 10
    close_seeds, close  further seeds, and the candidates that the first could not tell apart
    plenty      unguided images a class of the stage `generator`
    paper_real  real images a class that `dap-paper` sees; None: all, as published
    sampling    dtype of the backbone that samples
    dtype       of the trainings that judge
    shares      IPC -> factor by which the share of epochs is cut further at that IPC
    compile     of the trainings that judge
    few         methods that all networks judge; None: all. The first network judges every method
    long        IPCs at which only these few are made, and only the first network judges
    patient     further networks that judge there
    full        networks that are trained on all real images too, as the reference; None: all
    full_share  factor by which their share of epochs is cut further there
    second      methods whose sets a second backbone makes, too, trained with another seed
    """

    recipe: str
    size: int
    ipcs: tuple[int, ...] = (1, 10, 50)
    seeds: int = 3
    choose_ipcs: tuple[int, ...] = (10, 1)
    choose_seeds: tuple[int, ...] = (100,)
    close_seeds: tuple[int, ...] = ()
    close: tuple[str, ...] = ()
    networks: dict[str, float]
    test_images: int | None = None
    evaluations: int | None = None
    plenty: int = 1000
    paper_real: int | None = None
    sampling: str = "fp32"
    dtype: str = "bf16"
    compile: bool = True
    shares: dict[int, float] = field(default_factory=dict)
    few: tuple[str, ...] | None = None
    long: tuple[int, ...] = ()
    patient: tuple[str, ...] = ()
    full: tuple[str, ...] | None = None
    full_share: float = 1.0
    second: tuple[str, ...] = ()

    def chosen_from(self, seed: int, name: str) -> bool:
        """Whether a candidate is tried at a generation seed."""
        return seed in self.choose_seeds or name in self.close

    def made(self, method: str, ipc: int) -> bool:
        """Whether there is time for such a set."""
        method = method.removesuffix(SECOND)
        return ipc not in self.long or self.few is None or method in self.few

    def wanted(self, network: str, method: str, ipc: int) -> bool:
        """Whether a network judges it."""
        method = method.removesuffix(SECOND)
        few = self.few is None or (method in self.few and (ipc not in self.long or network in self.patient))
        return network == next(iter(self.networks)) or few

    def share(self, network: str, ipc: int) -> float:
        """Of the protocol's epochs; IPC 0 stands for all real images."""
        return round(self.networks[network] * (self.shares.get(ipc, 1.0) if ipc else self.full_share), 6)


ON_GPU: dict[str, Any] = {
    "choose_ipcs": (10, 1, 50),
    "choose_seeds": (100,),
    "evaluations": 5,
    "paper_real": 100,
    "sampling": "bf16",
    "compile": False,
    "few": MAIN,
}
RESNETS = {"resnetap-10": 0.1, "resnet-18": 0.1}
SETTINGS = {
    "imagenette-gpu": Setting(
        recipe="train_imagenette_gpu", size=64, networks={"convnet-4": 0.2, **RESNETS}, full=("convnet-4",), **ON_GPU
    ),
    "cifar10-gpu": Setting(
        recipe="train_cifar10_gpu", size=32, networks={"convnet-3": 0.2, **RESNETS}, full=(), **ON_GPU
    ),
    "imagenette-cpu": Setting(
        recipe="train_imagenette_cpu",
        size=32,
        networks={"convnet-3": 0.1, "resnetap-10": 0.02, "resnet-18": 0.02},
        shares={50: 0.4, 200: 0.4},
        test_images=1000,
        evaluations=5,
        plenty=200,
        choose_ipcs=(10, 1, 2, 5, 50),
        close_seeds=(101, 102, 103, 104, 105),
        close=(
            "random",
            "dap",
            "dap-paper, gamma 10",
            "former dap",
            "former dap, all steps but the last",
            "former dap, repulsion .5",
            "former dap, auto, repulsion 1",
            "former dap, auto, RBF-MMD",
            "former dap, strength 0.3, repulsion 1",
            "k-means clusters",
        ),
        dtype="fp32",
        few=MAIN,
        long=(50,),
        patient=("resnetap-10", "resnet-18"),
        full=("convnet-3",),
    ),
    "cifar10-cpu": Setting(
        recipe="train_cifar10_cpu",
        size=32,
        networks={"convnet-3": 0.1, "resnetap-10": 0.02, "resnet-18": 0.02},
        shares={50: 0.4},
        test_images=1000,
        evaluations=5,
        plenty=100,
        paper_real=200,
        dtype="fp32",
        few=MAIN,
        long=(50,),
        patient=("resnetap-10", "resnet-18"),
        full=("convnet-3",),
        full_share=0.2,
        second=("unguided", "dap-paper", "dap", *VARIANTS),
    ),
    "imagenette16-cpu": Setting(
        recipe="train_imagenette16_cpu",
        size=16,
        ipcs=(1, 10),
        choose_seeds=(100, 101),
        networks={"convnet-3": 0.1},
        evaluations=1,
        plenty=100,
        dtype="fp32",
    ),
}
