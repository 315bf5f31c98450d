"""A few real images that stand for a class, chosen once before any sampling: support points, or by herding.

The energy distance between m points and all N of them, with D the Euclidean distance,

    2/(N m) sum_ij D(x_i, t_j)  -  1/m^2 sum_ik D(x_i, x_k)  -  1/N^2 sum_jl D(t_j, t_l),

bounds how far averages over the m points are from averages over the class (Mak and Joseph 2018). Herding (Chen, Welling
and Smola 2010) with the kernel that induces D, k = -D, picks them greedily, one after the other:

    x_{m+1} = argmin_x  1/N sum_j D(x, t_j)  -  1/(m+1) sum_{i<=m} D(x, x_i)

so the first n of m points are the n that would have been chosen alone. Herding with the linear kernel asks for less:
only that their mean be the class's (Welling 2009). Of a class many times as large it takes images from the middle, and
a network that sees few images learns more when such guide (docs/choices.md).
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

SIDE = 16  # of the small pictures that images are compared by
AT_ONCE = 256  # images decoded together: memory does not grow with their number
POOL = 4  # times as many images as are chosen are compared, drawn at random: the cost does not grow with N either
HERD = 10  # the same for herding, for which a class must have more than nine times as many
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


def candidates(source: Source, count: int | None, herded: int | None = None) -> Source:
    """The images among which those of `supporting` are chosen: of a large class a part, drawn at random."""
    if count is None:
        return source
    few = source.at_most(POOL * count, 0)
    if herded is None:
        return few
    many = source.at_most(HERD * herded, 0).keys
    kept = (
        more if herds(len(keys), herded) else less for keys, more, less in zip(source.keys, many, few.keys, strict=True)
    )
    return replace(source, keys=tuple(kept))


def herds(images: int, herded: int | None) -> bool:
    """Whether a class of so many images is large enough for `herded` ones from its middle."""
    return herded is not None and images > (HERD - 1) * herded


def supporting(source: Source, count: int | None, herded: int | None = None) -> Source:
    """The source with the images that stand for each class, in the order of choice.

    count   so many support points, all images where there are fewer
    herded  so many images by herding instead, in a class of more than nine times as many

    None keeps all images, 256 support points first, chosen among at most four times as many, the rest in their order:
    nothing here grows with N but the list of names. A class's choice does not depend on the other classes.
    Raises: DataError for an image that cannot be read.
    """
    compared = candidates(source, ORDERED) if count is None else source
    kept = []
    for label, keys in enumerate(compared.keys):
        places = torch.arange(len(keys)).split(AT_ONCE)
        rows = torch.cat([small_pictures(compared.images(label, part.tolist())) for part in places])
        first = [keys[i] for i in _chosen(rows, count, herded)]
        taken = set(first)
        rest = [] if count is not None else [key for key in source.keys[label] if key not in taken]
        kept.append((*first, *rest))
    return replace(source, keys=tuple(kept))


def _chosen(rows: Tensor, count: int | None, herded: int | None) -> list[int]:
    if count is not None and herded is not None and herds(len(rows), herded):
        return [int(i) for i in herding_rows(rows, herded)]
    return support_points(rows, min(len(rows), ORDERED if count is None else count))
