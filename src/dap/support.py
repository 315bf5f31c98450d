"""A few real images that stand for a class, chosen once before any sampling: support points, or by herding.

The energy distance between m points and all N of them, with D the Euclidean distance,

    2/(N m) sum_ij D(x_i, t_j)  -  1/m^2 sum_ik D(x_i, x_k)  -  1/N^2 sum_jl D(t_j, t_l),

bounds how far averages over the m points are from averages over the class (Mak and Joseph 2018). Herding (Chen, Welling
and Smola 2010) with the kernel that induces D, k = -D, picks them greedily, one after the other:

    x_{m+1} = argmin_x  1/N sum_j D(x, t_j)  -  1/(m+1) sum_{i<=m} D(x, x_i)

so the first n of m points are the n that would have been chosen alone. Herding with the linear kernel asks for less:
only that their mean be the class's (Welling 2009). From a class many times as large it takes images from the middle,
of which a network that sees few learns more (docs/guidance.md); of a small class it would only leave the outliers out.
Both choose on small pictures of the images, not on features: once, whatever the backbone or the number of steps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dap.baselines.rows import herding_rows
from dap.data import Source
from dap.kernels import distance, linear

CHOICES = ("support", "herding", "auto")
SIDE = 16  # of the small pictures that images are compared by
AT_ONCE = 256  # images decoded together: memory does not grow with their number
POOL = 4  # times as many images as are chosen are compared, drawn at random: the cost does not grow with N either
HERD = 10  # the same for herding, and for "auto", which herds in classes of 4 times as many and more
ORDERED = 256  # of a class that is used whole, so many come first: support points, chosen as if no more were used


def support_points(rows: Tensor, count: int) -> list[int]:
    """The indices of `count` of the rows [N, F], in the order of choice; ties go to the first. count <= N."""
    exact = rows.double()
    apart = distance(linear, exact, exact).round(decimals=5)  # else rounding tells twins apart
    to_class, to_chosen = apart.mean(1), torch.zeros(len(rows), dtype=apart.dtype)
    chosen: list[int] = []
    for m in range(count):
        score = to_class - to_chosen / (m + 1)
        score[chosen] = float("inf")
        chosen.append(int(score.argmin()))
        to_chosen += apart[:, chosen[-1]]
    return chosen


def small_pictures(images: Tensor) -> Tensor:
    """uint8 [n, c, h, w] -> float rows [n, F]: averaged down to 16 px where they are larger."""
    side = min(SIDE, images.shape[-1])
    return F.adaptive_avg_pool2d(images.float() / 255, side).flatten(1)


def candidates(source: Source, count: int | None, choice: str = "support") -> Source:
    """The images among which `count` a class are chosen: at most POOL or HERD times as many, drawn at random.

    None: all.
    """
    return source if count is None else source.at_most((POOL if choice == "support" else HERD) * count, 0)


def chosen(rows: Tensor, count: int, choice: str) -> list[int]:
    """The indices of `count` of a class's rows [N, F] in the order of choice; `choice` is one of CHOICES."""
    if choice == "herding" or (choice == "auto" and len(rows) >= POOL * count):
        return [int(i) for i in herding_rows(rows, count)]
    return support_points(rows, count)


def supporting(source: Source, count: int | None, choice: str = "support") -> Source:
    """The source with `count` images a class that stand for it, all where there are fewer, in the order of choice.

    choice  one of CHOICES: support points, herding, or auto: herding in classes of at least four times as many images
    None keeps all images, 256 support points first, chosen among at most four times as many, the rest in their order:
    nothing here grows with N but the list of names. A class's choice does not depend on the other classes.
    Raises: DataError for an image that cannot be read.
    """
    if count is None:
        choice = "support"
    compared = candidates(source, ORDERED) if count is None else source
    kept = []
    for label, keys in enumerate(compared.keys):
        places = torch.arange(len(keys)).split(AT_ONCE)
        rows = torch.cat([small_pictures(compared.images(label, part.tolist())) for part in places])
        first = [keys[i] for i in chosen(rows, min(len(keys), ORDERED if count is None else count), choice)]
        taken = set(first)
        rest = [] if count is not None else [key for key in source.keys[label] if key not in taken]
        kept.append((*first, *rest))
    return replace(source, keys=tuple(kept))
