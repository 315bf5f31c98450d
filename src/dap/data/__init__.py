"""Images in. `open_dataset` is the one way to name a dataset; it gives a `Source`.

    a folder of class folders | a parquet file or a folder of them | a dataset that dap distilled
    hf:owner/name | digits:train, digits:test | any of them with a split: DIR:train

Reading order: base.py (what a source is), decode.py (one file -> one image), then one file per place images come from.
"""

from __future__ import annotations

from pathlib import Path

from dap.data.base import Source
from dap.data.classes import match_classes
from dap.data.folder import open_folder
from dap.data.imagenet import subset_wnids
from dap.data.location import locate, one_split, parquet_files
from dap.data.split import split_validation
from dap.errors import DataError

__all__ = ["Source", "match_classes", "open_dataset", "split_validation"]


def open_dataset(
    spec: str | Path,
    *,
    split: str | None = None,
    subset: str | None = None,
    size: int | None = None,
    mode: str | None = None,
    on_bad_image: str | None = None,
) -> Source:
    """The labelled images that `spec` names; nothing is decoded, unless `on_bad_image` asks for it.

    spec          folder, parquet file or folder of them, distilled dataset, `hf:owner/name`, `digits:train`;
                  a split may follow after a colon
    split         the same as after the colon
    subset        a named ImageNet subset (imagenette, imagewoof, ...): only its wnids, sorted
    size          side in pixels of the images; None: each its own
    mode          "RGB" or "L"; None: "L" for digits, "RGB" for all others
    on_bad_image  "fail" or "skip" decodes every image now (see `Source.checked`); None does not
    Raises: DataError for all that is not as it should be, fewer than two classes and an empty class among it.
    """
    wnids = None if subset is None else subset_wnids(subset)
    source = _open(str(spec), split, wnids)
    if wnids is not None:
        source = source.restrict(wnids)
    if len(source.class_names) < 2:
        raise DataError(
            f"{source.name!r} has {len(source.class_names)} class ({', '.join(source.class_names)}); at"
            " least two are needed"
        )
    if empty := [name for name, count in zip(source.class_names, source.counts, strict=True) if not count]:
        raise DataError(
            f"{source.name!r} has no images of {len(empty)} of its {len(source.class_names)} classes:"
            f" {', '.join(empty[:5])}; add some, or take these names out"
        )
    source = source.with_format(size=size, mode=mode)
    return source if on_bad_image is None else source.checked(on_bad_image)


def _open(spec: str, split: str | None, only: tuple[str, ...] | None) -> Source:
    # Each reader is imported when it is meant: a folder of photographs needs neither pyarrow nor
    # scikit-learn.
    if spec.startswith("hf:"):
        from dap.data.huggingface import open_hub

        return open_hub(spec.removeprefix("hf:"), split)
    if spec == "digits" or spec.startswith("digits:"):
        from dap.data.builtin import open_digits

        return open_digits(one_split(spec.partition(":")[2] or None, split, "digits"))
    path, name, split = locate(spec, split)
    if path.suffix.lower() == ".parquet" or (path.is_dir() and parquet_files(path)):
        from dap.data.huggingface import open_parquet

        return open_parquet(path, split, name)
    if not path.is_dir():
        raise DataError(f"{name!r} is a file; give a folder of class folders or a .parquet file")
    return open_folder(path, split, name, only)
