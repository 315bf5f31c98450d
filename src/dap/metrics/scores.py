"""Features in, numbers out: how well a few images S stand for the real images T of one class.

    representativeness   E(S, T) = 2 E|s - t| - E|s - s'| - E|t - t'|     energy distance, V-statistic: 0 for S = T
                         mean D_K = E|s - t|
    diversity            Vendi score = exp(- sum_i l_i ln l_i),  l the eigenvalues of K / |S|, K an RBF kernel: 1 .. |S|
                         mean pairwise D_K = E|s - s'|, s' another image
    coverage             share of T with an s within the distance of t's 5th nearest neighbour in T
    near-copies          s closer to its nearest real image t than t's own nearest real neighbour is

E is the mean over all pairs, D_K that of the linear kernel. The RBF kernel's bandwidth is the real images' median
distance, so that a class drawn to one point scores 1 wherever that point lies; cosine would call it diverse.
Szekely and Rizzo 2013 (energy distance), Friedman and Dieng 2023 (Vendi score), Naeem et al. 2020 (coverage).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dap.kernels import median_distance
from dap.metrics.distances import Rows, mean_of, pairs, taken

NEIGHBOURS = 5  # whose distance is the radius of coverage
_KEPT = 2 * NEIGHBOURS  # so that the radius is still known when some of the neighbours are held out


@dataclass(frozen=True, kw_only=True)
class Real:
    """What is known of a class's N real images, once for all sets that are compared with them.

    rows        features [N, F]                     mean_distance  E|t - t'| over all pairs, t = t' among them
    centre      their mean [F]                      bandwidth      median distance of the first 256
    neighbours  the nearest others [N, k], and `near` their distances [N, k], sorted; k is 10 or N - 1
    present     [N], False for rows that are held out; None: all are there
    """

    rows: Rows
    centre: Tensor
    mean_distance: float
    bandwidth: float
    neighbours: Tensor
    near: Tensor
    present: Tensor | None = None

    @property
    def radius(self) -> Tensor | None:
        """Distance of the 5th nearest other real image [N] (of the last, where there are fewer); None for N = 1."""
        count = self.near.shape[1]
        return self.near[:, min(NEIGHBOURS, count) - 1] if count else None

    @staticmethod
    def of(rows: Rows, block: int | None = None) -> Real:
        """One pass over all pairs of rows [N, F], N at least 1."""
        centre, count = mean_of(rows), len(rows)
        kept, total = min(_KEPT, count - 1), 0.0
        near, who = torch.full((count, kept), torch.inf), torch.zeros((count, kept), dtype=torch.long)
        for part in pairs(rows, rows, centre, block):
            if part.first == part.second:
                part.d.fill_diagonal_(0)
            total += float(part.d.sum(dtype=torch.float64))
            if part.first == part.second:
                part.d.fill_diagonal_(torch.inf)  # nobody is a neighbour of itself, though a copy is
            mine = slice(part.first, part.first + len(part.d))
            best = part.d.topk(min(kept, part.d.shape[1]), largest=False)
            candidates = torch.cat([near[mine], best.values], 1)
            chosen = candidates.topk(kept, largest=False)
            near[mine] = chosen.values
            who[mine] = torch.cat([who[mine], best.indices + part.second], 1).gather(1, chosen.indices)
        bandwidth = median_distance(taken(rows, 0, 256) - centre)
        mean = total / count**2
        return Real(rows=rows, centre=centre, mean_distance=mean, bandwidth=bandwidth, neighbours=who, near=near)

    def without(self, held_out: Tensor) -> Real:
        """The same class less the rows `held_out` (positions), without another pass over all pairs.

        A row most of whose ten nearest are held out keeps the farthest as its radius.
        """
        present = torch.ones(len(self.near), dtype=torch.bool)
        present[held_out] = False
        out, rest = torch.as_tensor(self.rows[held_out.numpy()]), int(present.sum())
        cross = sum(float(p.d.sum(dtype=torch.float64)) for p in pairs(out, self.rows, self.centre))
        inner = sum(float(p.d.sum(dtype=torch.float64)) for p in pairs(out, out, self.centre))
        total = self.mean_distance * len(self.near) ** 2 - 2 * cross + inner
        near = self.near.masked_fill(~present[self.neighbours], torch.inf).sort(1).values
        near = near.minimum(self.near[:, -1:])
        return replace(self, mean_distance=total / rest**2, near=near, present=present)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The numbers of one class. None where they are not defined: one image has no pair, one real image no neighbour.

    nearest  for each synthetic image the position of its nearest real one, and `nearest_distance` how far it is
    copies   whether each synthetic image is a near-copy [I]
    """

    energy_distance: float
    mean_distance: float
    vendi: float
    mean_pairwise: float | None
    coverage: float | None
    copies: tuple[bool, ...] | None
    nearest: tuple[int, ...]
    nearest_distance: tuple[float, ...]

    @property
    def near_copies(self) -> float | None:
        """The share of near-copies."""
        return None if self.copies is None else sum(self.copies) / len(self.copies)


def score(synthetic: Rows, real: Real, block: int | None = None) -> Scores:
    """All numbers of synthetic rows [I, F] of a class, I at least 1."""
    count, total, radius = len(synthetic), 0.0, real.radius
    present = torch.ones(len(real.rows), dtype=torch.bool) if real.present is None else real.present
    best, who = torch.full((count,), torch.inf), torch.zeros(count, dtype=torch.long)
    covered = torch.zeros(len(real.rows), dtype=torch.bool)
    for part in pairs(synthetic, real.rows, real.centre, block):
        mine = slice(part.first, part.first + len(part.d))
        theirs = slice(part.second, part.second + part.d.shape[1])
        total += float(part.d[:, present[theirs]].sum(dtype=torch.float64))
        least = part.d.masked_fill(~present[theirs], torch.inf).min(1)
        closer = least.values < best[mine]
        best[mine] = torch.where(closer, least.values, best[mine])
        who[mine] = torch.where(closer, least.indices + part.second, who[mine])
        if radius is not None:
            covered[theirs] |= (part.d <= radius[theirs]).any(0)
    apart = sum(float(p.d.sum(dtype=torch.float64)) for p in pairs(synthetic, synthetic, real.centre, block))
    mean = total / (count * int(present.sum()))
    return Scores(
        energy_distance=max(0.0, 2 * mean - apart / count**2 - real.mean_distance),
        mean_distance=mean,
        vendi=vendi(synthetic, real.centre, real.bandwidth),
        mean_pairwise=apart / (count * (count - 1)) if count > 1 else None,
        coverage=None if radius is None else float(covered[present].float().mean()),
        copies=None if radius is None else tuple((best < real.near[who, 0]).tolist()),
        nearest=tuple(who.tolist()),
        nearest_distance=tuple(best.tolist()),
    )


def vendi(rows: Rows, centre: Tensor, bandwidth: float) -> float:
    """exp of the entropy of K / n's eigenvalues, K = exp(-D^2 / (2 bandwidth^2)): 1 for copies, n for strangers."""
    count = len(rows)
    gram = torch.eye(count, dtype=torch.float64)
    for part in pairs(rows, rows, centre):
        where = slice(part.first, part.first + len(part.d)), slice(part.second, part.second + part.d.shape[1])
        gram[where] = torch.exp(part.d.double().square() / (-2 * bandwidth**2))
    gram.fill_diagonal_(1)
    weights = torch.linalg.eigvalsh(gram / count).clamp_min(1e-300)
    return min(float(count), max(1.0, float(torch.exp(-(weights * weights.log()).sum()))))


def interval(values: Sequence[float | None], seed: int = 0, resamples: int = 1000) -> dict[str, float | None]:
    """{"mean", "low", "high"} over classes: the mean, and the middle 95 % of means of bootstrapped classes.

    It says how far the average hangs on which classes these are, not on the generation seed. None for fewer than two.
    """
    known = torch.tensor([v for v in values if v is not None], dtype=torch.float64)
    if not len(known):
        return {"mean": None, "low": None, "high": None}
    mean = float(known.mean())
    if len(known) < 2:
        return {"mean": mean, "low": None, "high": None}
    draws = torch.randint(len(known), (resamples, len(known)), generator=torch.Generator().manual_seed(seed))
    low, high = torch.quantile(known[draws].mean(1), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": mean, "low": low, "high": high}
