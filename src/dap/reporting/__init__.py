"""One file that shows what a distilled set is, what it is worth and what is not known of it.

    report(["set"])  ->  set/report.html, set/report-figures/*.svg, *.png

Reading order: reading.py (what lies in a set), figures.py (what is drawn), page.py (what is said), html.py (how).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dap.disk import refusals, write_whole
from dap.errors import ConfigError, StoreError

SVG_BYTES = 300_000  # a larger drawing goes into the page as pixels


def report(sets: Sequence[str | Path], out: str | Path | None = None) -> dict[str, Any]:
    """Writes a self-contained HTML file about distilled sets, the first of them in full, and the figures beside it.

    out      the file; None: report.html in the first set
    returns  {"report", "bytes", "images", "shown", "figures", "warnings"}, paths as text

    Reads what `dap distill`, `evaluate` and `measure` left in the sets; what is missing is named with the command that
    makes it. Raises: ConfigError for no set, StoreError for a directory that is no distilled set or cannot be written.
    """
    from dap.reporting.figures import figures
    from dap.reporting.html import data_uri, render
    from dap.reporting.page import page
    from dap.reporting.reading import read_set

    if not sets:
        raise ConfigError("no set to report on; name at least one: dap report DIR")
    views = [read_set(one) for one in sets]
    path = views[0].store.path / "report.html" if out is None else Path(out).expanduser()
    if path.is_dir():
        raise StoreError(f"{path} is a directory; name a file: --out {path / 'report.html'}")
    if not views[0].pictures:
        raise StoreError(f"{sets[0]} has no images yet: run the same dap distill again, then report")
    drawn, shown, files = list(figures(views)), [], []
    folder = path.with_name(f"{path.stem}-figures")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for figure in drawn:
            files += figure.save(folder)
            small = figure.for_the_page()
            if figure.name.startswith("map_"):
                continue  # the page has the same map, alive
            picture = data_uri("image/svg+xml", small) if len(small) <= SVG_BYTES else _pixels(figure.png)
            shown.append((figure, picture, f"{folder.name}/{figure.name}"))
        values = page(views, shown, [_likely_test(view.table("data").get("source")) for view in views])
        data = render(values)
        write_whole(path, data)
    return {
        "report": str(path),
        "bytes": len(data),
        "images": sum(len(view.pictures) for view in views),
        "shown": sum(one["shown"] for one in values["sets"]),
        "figures": [str(file) for file in files],
        "warnings": [line for view in views for line in view.warnings],
    }


def _likely_test(source: object) -> str:
    """Where the test images probably are."""
    text = str(source or "DATA")
    return f"{text[:-5]}test" if text.endswith("train") else text if ":" in text else f"{text}:test"


def _pixels(png: bytes) -> str:
    """A large figure as WebP."""
    import io

    from PIL import Image

    from dap.reporting.thumbnails import uri

    return uri(Image.open(io.BytesIO(png)).convert("RGB"))
