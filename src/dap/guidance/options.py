"""The options of representativeness guidance, and what is refused of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from dap.config import require
from dap.guidance.energy import Energy
from dap.kernels import check_kernel_name
from dap.pooling import Pooling

START = 0.5  # the share of the steps that `start` "auto" takes at most


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of `Representativeness`; exactly one of `gamma` and `strength`.

    tap         layer of the backbone, e.g. block.3; None: what the backbone recommends; "auto": `guidance.taps`
    kernel      linear, rbf, laplace, polynomial, cosine, or an import path package.module:name
    bandwidth   of rbf and laplace; None: the median distance of the class's real features, at each step
    pool        flatten (every token's features) or mean (their average over tokens)
    projection  features by a random projection to so many numbers; None: all of them
    gamma       absolute step length along g_t (the paper: 1.0)
    strength    step length as a share of the denoising step's own length, image by image; or "auto"
    beyond      b of "auto": how far below E_s of the real images that stand for the class, in units of E_r - E_s
    reach       of "auto": the largest share of the denoising step's length
    repulsion   lambda, 0 or more; or "auto": .07 for each image of a class, up to .7 (docs/choices.md)
    contrast    mu, 0 or more, below 1 unless "auto": the push away from other classes, mu/I an image (`dap.negatives`)
    power       p, 1 or 2
    interval    share of the trajectory in which it acts; (0, 1) leaves out the last step
    start       the last share of the steps that is taken, begun at noised real images; 1: all of them, begun at noise;
                or "auto": .5, and less for many images of a weak backbone (`Representativeness.start_of`)
    reference   class (every image sees all real ones) or cluster (image i sees cluster i of IPC)
    reference_size  real images of a class that stand for it, its support points (`dap.support`); None or "all": all
    reference_herded  so many from the middle of a class instead, where it has more than nine times as many, unless IPC
                wants more than these and `reference_size`; None: never
    reference_spacing  most, in sqrt(t / T), between the noise levels at which real features are computed; 0: every step
    """

    tap: str | None = None
    kernel: str = "linear"
    bandwidth: float | None = None
    pool: str = "flatten"
    projection: int | None = None
    gamma: float | None = None
    strength: float | str | None = None
    beyond: float = 1.0
    reach: float = 0.5
    repulsion: float | str = 0.0
    contrast: float = 0.0
    power: int = 1
    interval: tuple[float, float] = (0.0, 1.0)
    start: float | str = 1.0
    reference: str = "class"
    reference_size: int | str | None = None
    reference_herded: int | None = None
    reference_spacing: float = 0.14

    def __post_init__(self) -> None:
        check_kernel_name(self.kernel)
        one = (self.gamma is None) != (self.strength is None)
        got = f"got gamma={self.gamma} and strength={self.strength}"
        require(one, f"guidance needs either gamma or strength, {got}; e.g. --set guidance.strength=auto")
        auto = self.strength == "auto"
        require(
            auto or not isinstance(self.strength, str),
            f"guidance.strength is {self.strength!r}; use a number such as 0.3, or auto",
        )
        self._check_numbers()
        require(auto or self.scale >= 0, f"guidance gamma or strength is {self.scale}; use 0 (off) or more")
        require(self.pool in ("flatten", "mean"), f"guidance.pool is {self.pool!r}; use 'flatten' or 'mean'")
        require(self.beyond >= 0, f"guidance.beyond is {self.beyond}; use 0 (as good as real images) or more")
        require(self.reach > 0, f"guidance.reach is {self.reach}; use a number above 0")
        require(
            self.repulsion == "auto" or (not isinstance(self.repulsion, str) and self.repulsion >= 0),
            f"guidance.repulsion is {self.repulsion}; use 0 (the paper) or more, 1 for the energy distance, or auto",
        )
        bounded = 0 <= self.contrast < 1 or (auto and self.contrast >= 1)  # from 1 on, only a goal ends the push
        require(bounded, f"guidance.contrast is {self.contrast}; use 0 (off) to less than 1, or strength=auto")
        require(self.power in (1, 2), f"guidance.power is {self.power}; use 1 or 2")
        known = ("class", "cluster")
        require(self.reference in known, f"guidance.reference is {self.reference!r}; use 'class' or 'cluster'")

    def _check_numbers(self) -> None:
        for name in ("gamma", "strength", "beyond", "reach", "repulsion", "contrast", "bandwidth", "start"):
            given = getattr(self, name)
            require(not isinstance(given, float) or isfinite(given), f"guidance.{name} is {given}; use a finite number")
        for name in ("reference_size", "reference_herded", "projection"):
            value = getattr(self, name)
            fits = value is None or (value == "all" if isinstance(value, str) else value >= 1)
            everything = "all" if name == "reference_size" else "leave it out"
            require(fits, f"guidance.{name} is {value}; use 1 or more, or {everything}")
        require(
            self.bandwidth is None or self.bandwidth > 0,
            f"guidance.bandwidth is {self.bandwidth}; use a number above 0",
        )
        require(
            0 <= self.reference_spacing <= 1,
            f"guidance.reference_spacing is {self.reference_spacing}; use 0 (every step) to 1, in sqrt(t / T)",
        )
        require(
            0 <= self.interval[0] < min(1, self.interval[1]),
            f"guidance.interval is {list(self.interval)}; use [start, end] with 0 <= start < end, e.g. [0, 0.8]",
        )
        whole = self.reference_size is None or isinstance(self.reference_size, str)
        require(
            self.reference_herded is None or not whole,
            f"guidance.reference_herded is {self.reference_herded}, but reference_size says all real images; give a "
            "number there, for classes that are too small, or leave it out",
        )
        share = START if self.start == "auto" else self.start
        require(
            not isinstance(share, str) and 0 < share <= 1,
            f"guidance.start is {self.start}; use above 0 to 1 (all steps, begun at noise), or auto",
        )
        require(
            self.interval[1] > 1 - float(share),
            f"guidance.interval is {list(self.interval)}, but with guidance.start={self.start} no step before "
            f"{1 - float(share):g} is taken; use --set guidance.start=1",
        )

    @property
    def scale(self) -> float:
        """gamma or strength, whichever is set; 1 for "auto"."""
        if self.strength == "auto":
            return 1.0
        return self.gamma if self.gamma is not None else float(self.strength or 0.0)

    @property
    def off(self) -> bool:
        """Scale zero takes the unguided path."""
        return self.scale == 0

    @property
    def couples(self) -> bool:
        """With repulsion the images of a class see each other; with clusters they share them out."""
        return self.repulsion != 0 or self.reference == "cluster"

    @property
    def pooling(self) -> Pooling:
        """How features become rows."""
        return Pooling(pool=self.pool, projection=self.projection)

    @property
    def energy(self) -> Energy:
        """E, with the options that shape it."""
        names = ("kernel", "bandwidth", "repulsion", "power", "contrast")
        return Energy(**{name: getattr(self, name) for name in names})
