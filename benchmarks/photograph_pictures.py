"""Pictures of what `photographs.py` made: a contact sheet of the methods, and the backbone's loss curve.

    python benchmarks/photograph_pictures.py SETTING --data PARQUET_FOLDER [--work DIR]

docs/photographs_SETTING.jpg        IPC 10, seed 0: the first images of every class, row by row a method
docs/photographs_SETTING_samples.jpg  the backbone's last grid of samples, a row a class
docs/photographs_SETTING_loss.png   training loss against the share of the way
docs/photographs_SETTING_second*    the same of a second backbone. What was not made here stays as it is
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from dap.baselines import SELECTIONS
from dap.data import Source, open_dataset
from dap.data.imagenet import is_wnid, synset
from dap.disk import write_whole
from dap.pictures import contact_sheet, stacked
from dap.reporting.drawing import COLOURS, drawn
from dap.reporting.drawing import sheet as paper
from photograph_sets import folder_of
from photograph_settings import SECOND
from record import RESULTS

TICKS = (0.03, 0.05, 0.1, 0.2, 0.5)
METHODS, ACROSS = ("unguided", "dap-paper", "dap"), 5
DOCS = Path(__file__).parent.parent / "docs"


def sheet(sets: Path, real: Source, images: int = 5, second: str = "") -> bytes | None:
    """JPEG, images of 64 px or more; real ones are drawn at random, a method without a set is left out.

    second  what stands behind the names of a second backbone's methods. None where there is no set at all
    """
    made = {name: sets / folder_of(f"{name}{second}", 10, 0) for name in METHODS}
    if not any(place.exists() for place in made.values()):
        return None
    sources = {"real": SELECTIONS["random"](real, images, 0)}
    scale = max(1, 64 // real.images(0, [0]).shape[-1])
    sources |= {name: open_dataset(str(place)) for name, place in made.items() if place.exists()}
    titles, sheets = [synset(n).partition(",")[0] if is_wnid(n) else n for n in real.class_names], []
    for first in range(0, len(titles), ACROSS):
        few = range(first, min(first + ACROSS, len(titles)))
        rows = [(name, [s.images(label, range(images)) for label in few]) for name, s in sources.items()]
        sheets.append(contact_sheet(rows, [titles[label] for label in few], scale=scale, wrap=images))
    stream = io.BytesIO()
    stacked(sheets).save(stream, format="JPEG", quality=80, optimize=True)
    return stream.getvalue()


def samples(training: Path) -> bytes:
    """JPEG of the last grid that `dap train` drew."""
    stream = io.BytesIO()
    with Image.open(max((training / "samples").glob("*.png"))) as grid:
        grid.convert("RGB").save(stream, format="JPEG", quality=80, optimize=True)
    return stream.getvalue()


def loss_curve(losses: list[float]) -> bytes:
    """PNG of the losses of each hundredth of the way."""
    with paper(4.8, 2.6) as figure:
        axis = figure.subplots()
        axis.plot([100 * (i + 1) / len(losses) for i in range(len(losses))], losses, color=COLOURS[0])
        axis.set(xlabel="steps, %", ylabel="noise loss", yscale="log")
        axis.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axis.set_yticks([], minor=True)
    return drawn(figure, "loss", "", "", "").png


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting")
    parser.add_argument("--data", required=True, help="parquet folder with train and test")
    parser.add_argument("--work", type=Path, help="default: runs/photographs/SETTING")
    given = parser.parse_args()
    record: dict[str, Any] = json.loads((RESULTS / f"photographs_{given.setting}.json").read_text())
    place = given.work or Path("runs/photographs") / given.setting
    photographs = open_dataset(f"{given.data}:train", size=record["setting"]["size"])
    for folder, behind, ending in (("backbone", "", ""), ("backbone-1", SECOND, "_second")):
        start = DOCS / f"photographs_{given.setting}{ending}"
        if pictures := sheet(place / "sets", photographs, second=behind):
            write_whole(start.with_name(f"{start.name}.jpg"), pictures)
        if (place / folder / "training" / "samples").exists():
            write_whole(start.with_name(f"{start.name}_samples.jpg"), samples(place / folder / "training"))
        if row := record["rows"].get(f"backbone{behind}"):
            write_whole(start.with_name(f"{start.name}_loss.png"), loss_curve(row["loss"]))
