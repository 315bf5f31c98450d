"""One file that shows what a distilled set is, what it is worth and what is not known of it.

    report(["set"])  ->  set/report.html, set/report-figures/*.svg, *.png

Reading order: reading.py (what lies in a set), figures.py (what is drawn), page.py (what is said), html.py (how).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dap.disk import refusals, write_whole
from dap.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from dap.reporting.drawing import Drawn

SVG_BYTES = 300_000  # a larger drawing goes into the page as pixels


def report(sets: Sequence[str | Path], out: str | Path | None = None) -> dict[str, Any]:
    """Writes a self-contained HTML file about distilled sets, the first of them in full, and the figures beside it.

    out      the file; None: report.html in the set, of several sets in the folder that all of them lie in
    returns  {"report", "bytes", "images", "shown", "figures", "warnings"}, paths as text

    Reads what `dap distill`, `evaluate` and `measure` left in the sets; what is missing is named with the command that
    makes it. Raises: ConfigError for no set, StoreError for a directory that is no distilled set or cannot be written.
    """
    from dap.reporting.figures import figures
    from dap.reporting.html import render
    from dap.reporting.page import page
    from dap.reporting.reading import read_set
    from dap.reporting.together import together

    if not sets:
        raise ConfigError("no set to report on; name at least one: dap report DIR")
    views = together([read_set(one) for one in sets])
    path = beside([view.store.path for view in views]) if out is None else Path(out).expanduser()
    if path.is_dir():
        raise StoreError(f"{path} is a directory; name a file: --out {path / 'report.html'}")
    if not views[0].pictures:
        raise StoreError(f"{sets[0]} has no images yet: run the same dap distill again, then report")
    folder = path.with_name(f"{path.stem}-figures")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = list(figures(views))
        files = [file for figure in drawn for file in figure.save(folder)]
        # the page has the maps alive
        shown = [(f, _embedded(f), f"{folder.name}/{f.name}") for f in drawn if not f.name.startswith("map_")]
        values = page(views, shown)
        data = render(values)
        write_whole(path, data)
    warned = [f"{view.name}: {line}" if len(views) > 1 else line for view in views for line in view.warnings]
    images, shown_images = sum(len(view.pictures) for view in views), sum(one["shown"] for one in values["sets"])
    record = {"report": str(path), "bytes": len(data), "images": images, "shown": shown_images}
    return {**record, "figures": [str(file) for file in files], "warnings": warned}


def beside(sets: Sequence[Path]) -> Path:
    """Where a report goes by itself: into its set; of several, into the folder that holds all of them.

    Where that is the root of everything, one of the sets, or not to be written to: into the working directory.
    """
    places = {path.resolve() for path in sets}
    if len(places) == 1:
        return sets[0] / "report.html"
    together = not any(path.is_absolute() for path in sets)  # as the user wrote them, where that says it
    common = Path(os.path.commonpath(sets if together else places))
    fits = common.resolve() not in {*places, Path(common.anchor)} and os.access(common, os.W_OK)
    return (common if fits else Path()) / "report.html"


def _embedded(figure: Drawn) -> str:
    """A figure as a data URI: its drawing, or its pixels as WebP where that is large."""
    import io

    from PIL import Image

    from dap.reporting.html import data_uri
    from dap.reporting.thumbnails import uri

    small = figure.for_the_page()
    if len(small) <= SVG_BYTES:
        return data_uri("image/svg+xml", small)
    return uri(Image.open(io.BytesIO(figure.png)).convert("RGB"))
