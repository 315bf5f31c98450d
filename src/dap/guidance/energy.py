"""The energy of a set of synthetic images to the real images of their class, its gradient, and what a good set has.

For I synthetic rows s_i, N real rows t_j, weights W [I, N] whose rows sum to 1, and D the distance a kernel induces:

    E(S) = sum_i [ sum_j W_ij D(s_i, t_j)^p  -  lambda/2 * 1/I sum_k D(s_i, s_k)^p  -  mu/I * 1/L sum_l D(s_i, u_l)^p ]

W_ij = 1/N is the class as a whole; over cluster i alone it is the clustered reference. The second term is 0 at I = 1.
The third is the contrast to L real images u_l of other classes: that of the set as a whole, so it weighs most where a
class has one image, which alone must say what the class is not, and is left out from mu/I < 0.1 on (`dap.negatives`).
`power` p = 1 and `repulsion` lambda = 0 is the paper (DAP, eq. 7). lambda = 1 makes E, up to a constant, I/2 times the
energy distance of the set to the class (p = 1; Szekely & Rizzo 2013) or I times the squared MMD of the kernel (p = 2;
Gretton et al. 2012), both of the set as it is: 1/I, not the 1/(I-1) of an estimate of where such sets come from, which
drives two images past the ends of their class. Minima of this form are support points (Mak & Joseph 2018).

The first term is a sum over real rows, so they may come in parts: nothing grows with N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dap.kernels import SHIFT_INVARIANT, Kernel, distance, make_kernel, squared_distance


def set_energy(synthetic: Tensor, real: Tensor, kernel: Kernel, *, repulsion: float, power: int) -> Tensor:
    """E(S), a scalar, of synthetic rows [I, F] to real ones [N, F], all weighing alike: the formula above."""
    metric = squared_distance if power == 2 else distance
    energy = metric(kernel, synthetic, real).mean(1).sum()
    count = len(synthetic)
    if repulsion and count > 1:
        apart = metric(kernel, synthetic, synthetic)
        others = ~torch.eye(count, dtype=torch.bool, device=apart.device)  # rounding: D(s, s) is hardly ever 0
        energy = energy - repulsion / 2 * apart[others].sum() / count
    return energy


@dataclass(frozen=True)
class Slopes:
    """Of each set: its rows' shares of E [I], which add up to it, and dE/ds [I, F]."""

    energies: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Energy:
    """The energy's options: `kernel`, `bandwidth` as in `dap.kernels`, `repulsion` lambda, `power` p, `contrast` mu."""

    kernel: str = "linear"
    bandwidth: float | None = None
    repulsion: float = 0.0
    power: int = 1
    contrast: float = 0.0

    def slope(
        self,
        sets: list[Tensor],
        parts: Iterable[Tensor],
        weights: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> Slopes:
        """Energies and gradients of several sets [I, F] to the same real rows, which come in parts [n, F], float32.

        weights    [I, N] of sets of I rows; None: all real rows weigh alike. Sets do not see each other.
        negatives  [L, F], the u_l of the contrast; None: no such term
        """
        pulls, slopes, seen, frame = [torch.zeros(0)] * len(sets), [torch.zeros_like(s) for s in sets], 0, None
        for part in parts:
            frame = frame or self._frame(part)
            here = None if weights is None else weights[:, seen : seen + len(part)].to(part)
            real = part - frame.centre
            for k, rows in enumerate(sets):
                pull, slope = self._sloped(partial(self._pull, frame, real, here), rows - frame.centre)
                pulls[k], slopes[k] = pulls[k] + pull if seen else pull, slopes[k] + slope
            seen += len(part)
        if frame is None:
            raise AssertionError("a class has real images")
        share = seen if weights is None else 1
        far = None if negatives is None or not self.contrast else negatives - frame.centre
        push_of = partial(self._push, frame, far)
        pushes = [self._sloped(push_of, rows - frame.centre) for rows in sets]
        return Slopes(
            tuple(pull / share - push for pull, (push, _) in zip(pulls, pushes, strict=True)),
            tuple(slope / share - push for slope, (_, push) in zip(slopes, pushes, strict=True)),
        )

    @torch.no_grad()
    def yardsticks(
        self, real: Tensor, count: int, weights: Tensor | None = None, negatives: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """E_r and E_s, of sets of `count` real rows [N, F]: at random, on average, and the first ones.

        At random: different rows, row i by W_i. The first were chosen first to stand for the class (`dap.support`);
        with clusters, the first of each (of fewer rows than `count` all, again and again).
        Estimated from the first 256 rows; with weights from as many shared out among the clusters, at least two each.
        """
        real, weights = _sampled(real, count, weights)
        frame = self._frame(real)
        real = real - frame.centre
        apart = self._apart(frame.kernel, real, real)
        far = self._away(frame, real, None if negatives is None else negatives - frame.centre)
        others = apart - torch.diag(apart.diagonal())  # rounding: D(t, t) is hardly ever 0
        if weights is None:
            typical = others.sum() / max(1, len(real) * (len(real) - 1))
            chance = count * typical * (1 - self.repulsion / 2 * (count - 1) / count) - far.mean()
            chosen = torch.arange(count, device=real.device) % len(real)
            pull = others[chosen].mean(1)
        else:
            w = weights.to(real)
            w = w / w.sum(1, keepdim=True)
            pairs = w @ others @ w.T
            inside = pairs.diagonal() / (1 - w.square().sum(1)).clamp_min(1e-12)  # two different rows of a cluster
            push = (pairs.sum() - pairs.diagonal().sum()) / count
            chance = inside.sum() - self.repulsion / 2 * push - (w @ far).mean()
            chosen = w.argmax(1)
            pull = (others[chosen] * w).sum(1)
        among = others[chosen][:, chosen].sum() / count
        return chance, pull.sum() - self.repulsion / 2 * among - far[chosen].mean()

    def _frame(self, part: Tensor) -> _Frame:
        # Squared norms of 1e5 drown a distance of 1e-1, so distances are taken from a point near the rows.
        centre = part.mean(0) if self.kernel in SHIFT_INVARIANT else torch.zeros_like(part[0])
        return _Frame(centre, make_kernel(self.kernel, part - centre, self.bandwidth))

    def _apart(self, kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
        return squared_distance(kernel, a, b) if self.power == 2 else distance(kernel, a, b)

    def _sloped(self, term: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        """A term of each row [I], and the gradient of their sum; zeros where there is no such term."""
        with torch.enable_grad():  # also when the caller has switched it off
            leaf = rows.detach().requires_grad_()
            found = term(leaf)
            total = found.sum()
        if not total.requires_grad:
            return found, torch.zeros_like(rows)
        return found.detach(), torch.autograd.grad(total, leaf)[0]

    def _pull(self, frame: _Frame, real: Tensor, weights: Tensor | None, rows: Tensor) -> Tensor:
        """Each row's sum of D^p to the real rows of a part [I], weighted. All rows are centred, here and below."""
        apart = self._apart(frame.kernel, rows, real)
        return (apart if weights is None else apart * weights).sum(1)

    def _push(self, frame: _Frame, negatives: Tensor | None, rows: Tensor) -> Tensor:
        """Each row's share of repulsion and contrast [I]."""
        count = len(rows)
        push = self._away(frame, rows, negatives) / count
        if self.repulsion and count > 1:
            others = ~torch.eye(count, dtype=torch.bool, device=rows.device)
            among = self._apart(frame.kernel, rows, rows)
            push = push + self.repulsion / 2 * torch.where(others, among, 0).sum(1) / count
        return push

    def _away(self, frame: _Frame, rows: Tensor, negatives: Tensor | None) -> Tensor:
        """mu times each row's mean D^p to the negatives [n]."""
        if negatives is None or not self.contrast:
            return rows.new_zeros(len(rows))
        return self.contrast * self._apart(frame.kernel, rows, negatives).mean(1)


@dataclass(frozen=True)
class _Frame:
    """Where distances are taken from, and the kernel: both from the first real rows."""

    centre: Tensor
    kernel: Kernel


SAMPLED = 256  # rows from which an average over pairs is estimated


def _sampled(real: Tensor, count: int, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The rows [N, F] that an average is estimated from, and their weights; a cluster with none of them sees all."""
    if weights is None:
        return real[: max(SAMPLED, count)], None
    if len(real) == weights.shape[1] <= SAMPLED:
        return real, weights
    member = weights[:, : len(real)] > 0
    kept = (member & (member.cumsum(1) <= max(2, SAMPLED // len(member)))).any(0)
    weights = weights[:, : len(real)][:, kept]
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, 1.0)
    return real[kept.to(real.device)], weights
