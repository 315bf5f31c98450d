"""What a guided step costs on full-size backbones with random weights: the loop itself, measured pair by pair.

    python benchmarks/backbones.py --model dit|sd                                         CPU, fp32, 2 images
    python benchmarks/backbones.py --model dit --device cuda --dtype bf16 --images 50 --rate [--compile]

ratio    guided / unguided step, one after the other in one process; classifier-free guidance on, tap block.8 or mid,
         the recommended `dap` guidance (as many real images as it takes of a large class, and of nine others) at every
         step; the real features as a warm bank gives them, its file aside: extracting them is `cost.py`'s business
memory   peak of each: on a GPU what torch allocated, on a CPU the resident set of a process of its own
rate     images a second over 50 steps, and the share of the machine's own matrix rate (a large product, measured)
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dap.backbones import Backbone, pick_device
from dap.backbones.chain import Chain
from dap.backbones.computing import DTYPES, Computing
from dap.bank import Bank
from dap.config import GuidanceConfig
from dap.guidance import Guidance, load_guidance
from dap.memory import reference_rows
from dap.reference import Reference
from dap.resolution import reference_sizes
from dap.sampling import Guided, Sampler, State, trajectory
from dap.testing import tiny_source
from dap.types import Unit
from full_size import BUILDERS
from record import RESULTS, Results, places

REAL, CLASSES, CFG, STEPS = 96, 10, 4.0, 50


class Warm(Bank):
    """A bank that has every entry: of the same random rows [N, F] in half precision as many as there are; no file."""

    def __init__(self, rows: torch.Tensor, count: Callable[[int], int]) -> None:
        super().__init__("nowhere", {}, [])
        self.rows, self.count = rows, count

    def get(self, label: int, step: int) -> torch.Tensor:
        return self.rows[: self.count(label)]


class Ready(Reference):
    """Real images that lie ready, in random latents, as clusters are made of them: no VAE is asked."""

    def latents(self, label: int) -> torch.Tensor:
        shape = self.count(label), *self.backbone.latent_shape
        return torch.randn(shape, generator=torch.Generator().manual_seed(label)).to(self.backbone.device)


def ready(backbone: Backbone, guidance: Guidance, chain: Chain, images: int) -> Reference:
    """The real images of ten classes, warm."""
    few, herded = reference_sizes(guidance, images)
    count, labels = herded or few or REAL, range(CLASSES)
    source = tiny_source([f"class {k}" for k in labels], count, backbone.image_size, backbone.image_mode)
    found = Ready.of(guidance, backbone, source, tuple(labels), chain, ipc=images, rows=reference_rows(backbone))
    most = max(count, found.count(CLASSES))  # the pool of negatives stands behind the last class
    rows = torch.randn(most, found.row_numbers, generator=torch.Generator().manual_seed(0)).half()
    found.bank = Warm(rows, found.count)
    return found


class Bench:
    """The two trajectories that are compared, over the same images."""

    def __init__(self, options: argparse.Namespace) -> None:
        computing = Computing(device=options.device, dtype=options.dtype, compile=options.compile).checked()
        self.backbone, tap = BUILDERS[options.model](computing, options.tiny)
        self.options, self.cuda = options, computing.device.startswith("cuda")
        guidance = load_guidance(GuidanceConfig(name="dap", options={"tap": tap, "interval": (0.0, 1.0)}))
        if guidance is None:
            raise AssertionError("dap is a guidance")
        variance = "learned" if self.backbone.learned_variance else "fixed"
        self.chain = self.backbone.chain("ddpm", STEPS, 0.0, variance)
        self.reference = ready(self.backbone, guidance, self.chain, options.images)
        self.guidance, shift = guidance, guidance.prepare(self.backbone, self.reference)
        self.guided = Guided(shift=shift, tap=tap, interval=(0.0, 2.0))
        self.units = [Unit(0, i, i) for i in range(options.images)]

    def states(self, guided: bool, steps: int) -> Iterator[State]:
        """The first `steps` of a trajectory of 50, guided throughout or not at all."""
        sampler = Sampler(
            backbone=self.backbone,
            chain=self.chain,
            classes=(0,),
            cfg_scale=CFG,
            cfg_channels="all",
            micro_batch=self.options.micro_batch or self.options.images,
        )
        return itertools.islice(trajectory(sampler, self.units, self.guided if guided else None), steps)

    def seconds(self, run: Callable[[], object]) -> float:
        """Wall time of one call, the GPU's work included."""
        self._wait()
        began = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def ratio(bench: Bench, pairs: int) -> dict[str, Any]:
    """[unguided, guided] seconds of each pair of steps, after two of each to warm up."""
    plain, guided = bench.states(False, pairs + 2), bench.states(True, pairs + 2)
    rows = []
    for k in range(pairs + 2):
        row = [bench.seconds(lambda: next(plain)), bench.seconds(lambda: next(guided))]
        print(f"pair {k}: {row[0]:.3f} s, {row[1]:.3f} s, ratio {row[1] / row[0]:.3f}", flush=True)
        rows.append(row)
    ratios = [b / a for a, b in rows[2:]]
    return {"warm_up": rows[:2], "pairs_seconds": rows[2:], "ratios": ratios, "median_ratio": statistics.median(ratios)}


def memory(bench: Bench, guided: bool) -> int:
    """Bytes at the highest point of two steps, weights included."""
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
    states = bench.states(guided, 2)
    for _ in states:
        pass
    if bench.cuda:
        return int(torch.cuda.max_memory_allocated())
    # not ru_maxrss: Linux counts the parent's memory into a child's
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def memories(bench: Bench) -> dict[str, int]:
    """Both peaks; on a CPU each in a fresh process, because a process remembers only its highest."""
    if bench.cuda:
        return {name: memory(bench, guided) for name, guided in (("unguided", False), ("guided", True))}
    found = {}
    for name in ("unguided", "guided"):
        command = [sys.executable, __file__, *sys.argv[1:], "--peak", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])
    return found


def matrix_rate(bench: Bench, size: int = 8192) -> float:
    """Floating-point operations a second of one large product in the model's precision: the best of five."""
    dtype, device = DTYPES[bench.options.dtype], bench.backbone.device
    size = size if bench.cuda else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    bench.seconds(lambda: a @ a)
    return float(2 * size**3 / min(bench.seconds(lambda: a @ a) for _ in range(5)))


def operations(bench: Bench, guided: bool) -> int:
    """Floating-point operations of one step: a forward for conditional and null rows each, and when guided the way
    back through the blocks up to the tap, counted as one forward of these (weights have no gradient)."""
    x = torch.zeros(1, *bench.backbone.latent_shape, device=bench.backbone.device)
    condition, tap = bench.backbone.condition([0]), str(bench.guided.tap)
    with FlopCounterMode(display=False) as whole:
        bench.backbone.predict(x, 500, condition)
    with FlopCounterMode(display=False) as prefix:
        bench.backbone.tap_features(x, 500, condition, tap)
    each = 2 * whole.get_total_flops() + (prefix.get_total_flops() if guided else 0)
    return int(each * len(bench.units))


def rate(bench: Bench) -> dict[str, Any]:
    """Images a second of whole trajectories, guided and not, and the share of the matrix rate; decoding apart."""
    top, out = matrix_rate(bench), {}
    for name, guided in (("unguided", False), ("guided", True)):
        work = STEPS * operations(bench, guided)
        list(bench.states(guided, 3))
        seconds = bench.seconds(lambda guided=guided: list(bench.states(guided, STEPS)))
        images = len(bench.units)
        out[name] = {"seconds": seconds, "images_per_second": images / seconds, "share": work / seconds / top}
        print(
            f"{name}: {images / seconds:.2f} images/s, {work / seconds / top:.0%} of {top / 1e12:.0f} Tflop/s",
            flush=True,
        )
    latents = torch.randn(len(bench.units), *bench.backbone.latent_shape, device=bench.backbone.device)
    decoding = bench.seconds(lambda: bench.backbone.decode(latents))
    return {**out, "matrix_flops": top, "decode_seconds_per_image": decoding / len(bench.units), "steps": STEPS}


def main() -> None:
    """Measures what was asked and keeps it in results/backbones.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(BUILDERS), default="dit")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rate", action="store_true", help="whole trajectories too")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: does the script run? Nothing is kept")
    parser.add_argument("--peak", choices=["guided", "unguided"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = pick_device(options.device)
    bench = Bench(options)
    if options.peak:
        print(json.dumps({"peak_bytes": memory(bench, options.peak == "guided")}))
        return
    row = {**ratio(bench, options.pairs), "peak_bytes": memories(bench), "real_features": bench.reference.count(0)}
    if options.rate:
        row["rate"] = rate(bench)
    print(json.dumps(row, indent=1))
    if not options.tiny:
        compiled = ", compiled" if options.compile else ""
        where = torch.cuda.get_device_name() if bench.cuda else "CPU"
        kept = Results("backbones", cfg=CFG)
        how = f"{options.images} images, {row['real_features']} real"
        kept[f"{bench.backbone.name}, {options.dtype}, {how}, {where}{compiled}"] = row
        write_table(kept)


def write_table(kept: Results) -> None:
    """results/backbones.md: a line a run."""
    lines = ["# Guided and unguided steps at full size, random weights", "", f"Measured on {places(kept.record)}.", ""]
    lines += ["| run | guided / unguided | peak GB unguided, guided | images/s unguided, guided |", "|---|--:|--:|--:|"]
    for name, row in kept.record["rows"].items():
        gigabytes = ", ".join(f"{row['peak_bytes'][k] / 1e9:.1f}" for k in ("unguided", "guided"))
        rates = [f"{row['rate'][k]['images_per_second']:.2f}" for k in ("unguided", "guided")] if "rate" in row else []
        lines.append(f"| {name} | {row['median_ratio']:.2f} | {gigabytes} | {', '.join(rates)} |")
    Path(RESULTS / "backbones.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
