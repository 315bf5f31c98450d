"""Figures of numbers: radar, accuracy bars, accuracy against images per class, cost. Numbers in, a figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dap.reporting.drawing import (
    COLOURS,
    FAINT,
    HATCHES,
    INK,
    MARKERS,
    Drawn,
    drawn,
    lacking,
    percent,
    sheet,
    short,
    writable,
)

REAL = "#6f7780"
WIDE = 10  # times the cheapest: from here on a bar of it is too short to be read
LABEL_PAD = 24  # points from the circle: what lines of words beside it need
HOLLOW = "Hollow: published values, each the best of many looks at the test data: beside our best, not our last."


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of the radar: `centre` and `rim` are values of the number there; the rim is the good end.

    says  what the number stands for, where its name does not say it
    """

    name: str
    centre: float
    rim: float
    unit: str = ""
    says: str = ""

    def place(self, value: float) -> float:
        """Where a value lies, 0 (centre) .. 1 (rim)."""
        return min(1.0, max(0.0, (value - self.centre) / (self.rim - self.centre)))

    @property
    def label(self) -> str:
        """Its name, direction and scale."""
        better = "higher is better" if self.rim > self.centre else "lower is better"
        says = f"{self.says}:\n" if self.says else ""
        return f"{says}{self.name}\n{better}\n{self.centre:g} to {self.rim:g}{self.unit}"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An accuracy: fractions; `hollow` for what was published and not measured here."""

    name: str
    group: str
    mean: float
    sd: float | None = None
    hollow: bool = False
    baseline: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """Accuracies of one method against images per class: [(ipc, mean, sd)]."""

    name: str
    points: tuple[tuple[int, float, float | None], ...]
    hollow: bool = False
    baseline: bool = False


def radar(axes: Sequence[Axis], sets: Sequence[tuple[str, Sequence[float | None]]], about: str = "") -> Drawn:
    """Several sets against each other; a number that is not known leaves a gap. At least three axes.

    about  sentences on where the numbers are from
    """
    angles = [2 * math.pi * k / len(axes) for k in range(len(axes))]
    names = writable([name for name, _ in sets], 32, tail=True, what="set")
    with sheet(4.0, 4.8) as figure:  # as wide as a phone: nothing has to shrink there
        plot: Any = figure.add_subplot(projection="polar")
        plot.set_theta_offset(math.pi / 2 - angles[1] / 2 * (len(axes) % 2 == 0))
        plot.set_theta_direction(-1)
        plot.set_ylim(0, 1)
        plot.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[""] * 4)
        plot.set_xticks(angles, labels=[axis.label for axis in axes], fontsize=10)
        plot.tick_params(axis="x", pad=LABEL_PAD)
        _outwards(plot, angles)
        plot.grid(color=FAINT, linewidth=0.4, alpha=0.6)
        plot.spines["polar"].set_color(FAINT)
        for k, (_, values) in enumerate(sets):
            places = [math.nan if v is None else a.place(v) for a, v in zip(axes, values, strict=True)]
            look: dict[str, Any] = {
                "color": COLOURS[k % 8],
                "marker": MARKERS[k % 8],
                "linestyle": ("-", "--", "-.", ":")[k % 4],
            }
            plot.plot([*angles, angles[0]], [*places, places[0]], linewidth=1.6, markersize=5, label=names[k], **look)
            if not any(map(math.isnan, places)):
                plot.fill(angles, places, color=COLOURS[k % 8], alpha=0.06)
        figure.legend(loc="outside lower center", ncols=1 if max(map(len, names)) > 24 else 2, fontsize=9)
        rows = [["set", *(axis.name for axis in axes)]]
        rows += [[name, *(short(v) for v in values)] for name, values in sets]
        alt = "; ".join(
            f"{name}: " + ", ".join(f"{a.name} {short(v)}{a.unit}" for a, v in zip(axes, values, strict=True))
            for name, values in sets
        )
        text = "Each axis has its own scale, written beside it from centre to rim; the rim is the better end. The area "
        text += f"means nothing. {about}".rstrip() + lacking([name for name, _ in sets], what="set")
        return drawn(figure, "radar", "Sets against each other", text, f"Radar chart. {alt}.", rows)


def _outwards(plot: Any, angles: Sequence[float]) -> None:
    """Labels above and below the circle, which so has the sheet's whole width."""
    for angle, tick in zip(angles, plot.get_xticklabels(), strict=True):
        tick.set_verticalalignment("bottom" if math.sin(plot.get_theta_offset() - angle) > 0 else "top")


def accuracy_bars(bars: Sequence[Bar]) -> Drawn:
    """Measured accuracies with their standard deviations, published ones as hollow marks, grouped."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    sets = list(dict.fromkeys(bar.name for bar in bars if not (bar.baseline or bar.hollow)))
    names = writable([bar.name for bar in bars], 26, tail=True, what="bar")
    with sheet(4.6, 0.9 + 0.3 * len(bars) + 0.32 * len(groups)) as figure:
        plot, y, ticks = figure.add_subplot(), 0.0, []
        for group in groups:
            y -= 0.9
            title = writable([group], 60, what="protocol")[0]
            plot.text(0, y + 0.05, title, fontsize=9.5, fontweight="bold", va="center")
            for bar in sorted((b for b in bars if b.group == group), key=lambda b: (b.baseline, b.hollow)):
                y -= 1
                ticks.append((y, names[bars.index(bar)]))
                error = None if bar.sd is None else 100 * bar.sd
                if bar.hollow:
                    plot.errorbar(100 * bar.mean, y, xerr=error, fmt="D", color=INK, mfc="none", ms=6)
                    continue
                look: dict[str, Any] = (
                    {"color": "#c3c8ce", "hatch": "//"}
                    if bar.baseline
                    else {"color": COLOURS[sets.index(bar.name) % 8]}
                )
                plot.barh(y, 100 * bar.mean, height=0.7, edgecolor=INK, linewidth=0.4, **look)
                plot.errorbar(100 * bar.mean, y, xerr=error, ecolor=INK, capsize=2, linewidth=1)
        plot.set_yticks([at for at, _ in ticks], labels=[name for _, name in ticks])
        plot.tick_params(axis="y", length=0)
        plot.set(xlim=(0, 100), ylim=(y - 0.7, 0), xlabel="accuracy after the last step, %")
        plot.grid(axis="x", color=FAINT, linewidth=0.3, alpha=0.6)
        plot.set_axisbelow(True)
        rows = [["", "under", "accuracy %", "sd", "from"]]
        rows += [
            [b.name, b.group, percent(b.mean), percent(b.sd), "published" if b.hollow else "measured"] for b in bars
        ]
        alt = "; ".join(f"{b.name} {percent(b.mean)} %{' (published)' if b.hollow else ''}" for b in bars)
        text = "Whiskers are one standard deviation over training seeds."
        text += " Grey, hatched: real images." if any(bar.baseline for bar in bars) else ""
        text += f" {HOLLOW}" if any(bar.hollow for bar in bars) else ""
        text += lacking([bar.name for bar in bars], what="bar")
        return drawn(figure, "accuracy", "Accuracy", text, f"Bar chart of accuracies. {alt}.", rows)


def accuracy_by_ipc(lines: Sequence[Line], full: float | None, about: str) -> Drawn:
    """Accuracy against images per class, one line a method; the full data as a level."""
    names = writable([line.name for line in lines], 36, tail=True, what="line")
    with sheet(4.6, 3.8) as figure:
        plot = figure.add_subplot()
        for k, line in enumerate(lines):
            ipc, means = [p[0] for p in line.points], [100 * p[1] for p in line.points]
            colour = REAL if line.baseline else COLOURS[k % 7]
            look: dict[str, Any] = {"color": colour, "marker": MARKERS[k % 8], "mfc": "none" if line.hollow else colour}
            errors = [100 * (p[2] or 0) for p in line.points]
            style = ":" if line.hollow else ("-", "--", "-.")[k % 3]
            plot.errorbar(ipc, means, yerr=errors, linestyle=style, capsize=2, ms=5, label=names[k], **look)
        if full is not None:
            plot.axhline(100 * full, color=INK, linewidth=0.8, linestyle=(0, (6, 3)), label="all real images")
        counts = sorted({p[0] for line in lines for p in line.points})
        plot.set_xscale("log")
        plot.set_xticks(counts, labels=[str(c) for c in counts])
        plot.minorticks_off()
        plot.set(xlabel="images per class", ylabel="accuracy after the last step, %")
        plot.grid(color=FAINT, linewidth=0.3, alpha=0.6)
        figure.legend(loc="outside lower center", ncols=1 if max(map(len, names)) > 24 else 2, fontsize=9)
        rows = [["method", *(f"IPC {c}" for c in counts)]]
        for line in lines:
            at = {p[0]: p[1] for p in line.points}
            rows.append([line.name, *(percent(at.get(c)) for c in counts)])
        alt = "; ".join(f"{r[0]}: {', '.join(r[1:])}" for r in rows[1:])
        text = f"{about}. Whiskers are one standard deviation over training seeds, between sets of several generation "
        text += "seeds. Grey: real images." + (f" {HOLLOW}" if any(line.hollow for line in lines) else "")
        text += lacking([line.name for line in lines], what="line")
        return drawn(figure, "accuracy_by_ipc", "Accuracy against images per class", text, f"Line chart. {alt}.", rows)


def cost_bars(costs: Sequence[tuple[str, float, str]]) -> Drawn:
    """Seconds per image of each set, (name, seconds, device)."""
    names = writable([name for name, _, _ in costs], 26, tail=True, what="set")
    with sheet(4.6, 0.9 + 0.4 * len(costs)) as figure:
        plot = figure.add_subplot()
        wide = max(c[1] for c in costs) > WIDE * min(c[1] for c in costs)
        for k, (_, seconds, _) in enumerate(costs):
            if wide:  # a bar's length would mean nothing on a scale without zero
                plot.plot(seconds, -k, color=COLOURS[k % 8], marker=MARKERS[k % 8], ms=8, mec=INK, mew=0.4)
            else:
                look: dict[str, Any] = {"color": COLOURS[k % 8], "hatch": HATCHES[k % 8]}
                plot.barh(-k, seconds, height=0.6, edgecolor=INK, linewidth=0.4, **look)
            near: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
            plot.annotate(f"{seconds:.3g} s", (seconds, -k), **near)
        plot.set_yticks([-k for k in range(len(costs))], labels=names)
        plot.tick_params(axis="y", length=0)
        _cost_axis(plot, [seconds for _, seconds, _ in costs], wide)
        rows = [["set", "seconds per image", "device"], *([n, f"{s:.3g}", d] for n, s, d in costs)]
        alt = "; ".join(f"{n} {s:.3g} s on {d}" for n, s, d in costs)
        text = (
            "Sampling, with all that its guidance computes, as each chunk recorded it; times of different machines do "
        )
        text += "not compare."
        text += " The scale is logarithmic: each line is ten times the one before it." if wide else ""
        text += lacking([name for name, _, _ in costs], what="set")
        return drawn(figure, "cost", "Cost", text, f"Chart of seconds per image. {alt}.", rows)


def _cost_axis(plot: Any, seconds: Sequence[float], wide: bool) -> None:
    """From zero, or whole powers of ten around all values and room for the words beside the last."""
    if not wide:
        plot.set(xlabel="seconds per image", xlim=(0, 1.25 * max(seconds) or 1))
        return
    ends = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    plot.set_xscale("log")
    plot.set(xlabel="seconds per image, logarithmic", xlim=(10 ** ends[0], 10 ** (ends[1] + 0.3 * (ends[1] - ends[0]))))
    ticks = [10.0**k for k in range(ends[0], ends[1] + 1)]
    plot.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    plot.minorticks_off()
    plot.grid(axis="x", color=FAINT, linewidth=0.3, alpha=0.6)
    plot.set_axisbelow(True)
