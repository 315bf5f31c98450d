"""The pictures of a report as one JSON-ready record: what the page's script shows, and nothing it could run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from PIL import Image

from dap.reporting.figures import nearest, points_of, real_reader
from dap.reporting.reading import Picture, SetView
from dap.reporting.reproduce import distill_words, join, only
from dap.reporting.thumbnails import Reader, file_reader, thumbnails, uri

MOST_PICTURES = 1000
# bytes of HTML, for all sets together: under 8 MB with everything else
GALLERY_BYTES, NEAREST_BYTES, MAP_BYTES, SHEET_BYTES = 2_600_000, 1_500_000, 900_000, 400_000
MAP_SIDE, MOST_MAP_PICTURES = 48, 1500
SHEET_CLASSES, SHEET_IMAGES = 10, 10


def shown(view: SetView, most: int) -> list[Picture]:
    """The pictures of the gallery: all when they are no more than `most`, else as many of each class, the first ones.

    With more classes than places every n-th class is shown.
    """
    if len(view.pictures) <= most:
        return list(view.pictures)
    classes: dict[int, list[Picture]] = defaultdict(list)
    for picture in view.pictures:
        classes[picture.label].append(picture)
    labels = sorted(classes)
    labels = [labels[k * len(labels) // most] for k in range(most)] if len(labels) > most else labels
    each = most // len(labels)
    return [picture for label in labels for picture in classes[label][:each]]


def gallery(view: SetView, sets: int) -> dict[str, Any]:
    """One set of `sets` in the report: classes, pictures, nearest real images, maps."""
    pictures, guidance = shown(view, MOST_PICTURES // sets), view.table("guidance")
    thumbs = thumbnails([_reader(p) for p in pictures], GALLERY_BYTES // sets)
    near = _nearest(view, pictures, NEAREST_BYTES // sets)
    files: dict[int, list[list[Any]]] = defaultdict(list)
    for picture, thumb in zip(pictures, thumbs.uris, strict=True):
        name = view.store.class_names[picture.label]
        at, key, distance, copy = near["of"].get((name, picture.path.name), (-1, "", None, None))
        files[picture.label].append(
            [picture.index, str(picture.seed), picture.chunk, thumb, at, key, distance, copy, picture.path.name]
        )
    totals = Counter(picture.label for picture in view.pictures)
    names = view.store.class_names
    return {
        "name": view.name,
        "side": thumbs.side,
        "shown": len(pictures),
        "total": len(view.pictures),
        "coupled": bool(guidance.get("repulsion")) or guidance.get("reference") == "cluster",
        "command": join(distill_words(view.config, "again")),
        "classes": [
            {"name": names[k], "label": k, "total": totals[k], "only": list(only(names[k])), "images": files[k]}
            for k in sorted(files)
        ],
        "nearest": near["uris"],
        "maps": [
            _map(view, name, MAP_BYTES // sets) for name in ("train", "test") if points_of(view.metrics or {}, name)
        ],
    }


def contact_sheet(view: SetView) -> list[dict[str, Any]]:
    """A strip of pictures for each of the first classes: what the first screen shows."""
    rows = []
    for label, name in enumerate(view.store.class_names):
        pictures = [p for p in view.pictures if p.label == label and p.there][:SHEET_IMAGES]
        images = [image for p in pictures if (image := file_reader(p.path)()) is not None]
        if images:
            rows.append({"class": name, "count": len(images), **_strip(images)})
        if len(rows) == SHEET_CLASSES:
            break
    return rows


def _strip(images: Sequence[Image.Image]) -> dict[str, Any]:
    """Up to ten pictures side by side, room for ten; small ones keep their pixels and are enlarged by the reader."""
    own = max(max(image.size) for image in images)
    side = own if own <= 64 else 96
    gap = max(1, side // 16)  # clear, whatever the paper
    sheet = Image.new("RGBA", ((side + gap) * SHEET_IMAGES - gap, side))
    for k, image in enumerate(images):
        sheet.paste(image.resize((side, side), Image.Resampling.LANCZOS), (k * (side + gap), 0))
    return {"uri": uri(sheet, exact=own <= 32), "width": sheet.width, "height": side, "pixelated": own <= 32}


def _reader(picture: Picture) -> Reader:
    return file_reader(picture.path) if picture.there else lambda: None


def _nearest(view: SetView, pictures: Sequence[Picture], budget: int) -> dict[str, Any]:
    """Nearest real images of the pictures shown, each real image once."""
    table, reader, names = nearest(view), real_reader(view), view.store.class_names
    wanted: dict[tuple[str, str], int] = {}
    of: dict[tuple[str, str], tuple[int, str, float, bool | None]] = {}
    for picture in pictures:
        key = names[picture.label], picture.path.name
        if key in table:
            real, distance, copy = table[key]
            at = wanted.setdefault((key[0], real), len(wanted)) if reader is not None else -1
            of[key] = (at, real, distance, copy)
    uris = thumbnails([reader(*key) for key in wanted], budget).uris if reader is not None and wanted else ()
    return {"of": of, "uris": list(uris)}


def _map(view: SetView, name: str, budget: int) -> dict[str, Any]:
    """Points [kind, class, x, y, file, picture], kind 0 synthetic, -1 real; pictures of some of the real images."""
    metrics = view.metrics or {}
    points, reader = points_of(metrics, name), real_reader(view, "reference" if name == "train" else "test")
    classes = [str(c) for c in metrics.get("classes", [])]
    real = [p for p in points if p[0] == -1][:MOST_MAP_PICTURES] if reader is not None else []
    readers = [reader(classes[p[1]], p[2]) for p in real] if reader is not None else []
    uris = thumbnails(readers, budget, MAP_SIDE).uris if readers else ()
    at = {(p[1], p[2]): k for k, p in enumerate(real)}
    return {
        "name": name,
        "classes": classes,
        "points": [[p[0], p[1], p[3], p[4], p[2], at.get((p[1], p[2]), -1) if p[0] == -1 else -1] for p in points],
        "real": list(uris),
    }
