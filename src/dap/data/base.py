"""`Source`: a labelled set of images, whatever it is stored in. Lazy, sorted, seeded.

A source is data plus one function: `class_names` and `keys` say what is there (sorted, so that a machine's directory
order never matters), `read_bytes` turns one key into a stored file. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dap.data.content import each, hashed, inspect, reason_of
from dap.data.decode import MODES, decode, fit, pixels
from dap.errors import DataError, unknown

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A labelled set of images.

    name         as the user wrote it, for messages and records
    class_names  one a label, in label order: sorted folder names, or the order of the file's own table
    keys         keys[label] names that class's images, sorted; a path within the class, or a row of a file
    read_bytes   (label, key) -> the stored file, undecoded
    size         side in pixels of what `images` returns; None = their own, which must then agree
    mode         "RGB" (3 channels) or "L" (grey, 1 channel)
    skipped      what was left out because it could not be read, as (class/key, reason)

    Raises: DataError for a mode or size that does not exist, and for two classes of one name.
    """

    name: str
    class_names: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    read_bytes: Callable[[int, str], bytes]
    size: int | None = None
    mode: str = "RGB"
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise DataError(f"mode is {self.mode!r}; use 'RGB' or 'L'")
        if self.size is not None and self.size < 1:
            raise DataError(f"size is {self.size}; use 1 pixel or more")
        if len(self.class_names) != len(self.keys):
            raise DataError(f"{self.name!r} has {len(self.class_names)} class names for {len(self.keys)} classes")
        name, times = Counter(self.class_names).most_common(1)[0] if self.class_names else ("", 0)
        if times > 1:
            raise DataError(f"{self.name!r} has {times} classes named {name!r}; give each its own name")

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class, in label order."""
        return tuple(len(keys) for keys in self.keys)

    @property
    def digest(self) -> str:
        """A short name of the content: blake2b over the classes' digests, 32 hexadecimal digits.

        Reads every file once, unless `checked` has done so. Independent of paths, size and mode. Raises: DataError.
        """
        return hashed(*map(bytes.fromhex, self.class_digests)).hex()

    @cached_property
    def class_digests(self) -> tuple[str, ...]:
        """Of each class, blake2b over its name, keys and file bytes; it does not depend on the other classes."""
        labels = range(len(self.keys))
        return self._digests([list(each(partial(self._file_digest, i), self.keys[i])) for i in labels])

    def title(self, label: int, key: str) -> str:
        """`class/key`: how messages and records call one image."""
        return f"{self.class_names[label]}/{key}"

    def images(self, label: int, positions: Sequence[int] | None = None) -> Tensor:
        """The images of one class, or those at `positions` in `keys[label]`: uint8 [n, c, h, w] in 0..255.

        Decoded, upright, in `mode`; with a `size` the centre square, resized to h = w = size (antialiased
        bicubic, no resampling where the short side fits already).
        Raises: DataError naming a file that cannot be read; or two files of different size when `size` is None.
        """
        keys = self.keys[label] if positions is None else [self.keys[label][i] for i in positions]
        out = np.empty((0, 3 if self.mode == "RGB" else 1, self.size or 0, self.size or 0), np.uint8)
        for i, image in enumerate(each(partial(self._pixels, label), keys)):
            if i == 0:
                out = np.empty((len(keys), *image.shape), np.uint8)
            if image.shape != out.shape[1:]:
                (_, h0, w0), (_, h, w) = out.shape[1:], image.shape
                first, this = self.title(label, keys[0]), self.title(label, keys[i])
                raise DataError(
                    f"images differ in size: {first!r} is {w0} x {h0}, {this!r} is {w} x {h};"
                    f" give one size for all, for example size={min(h0, w0, h, w)}"
                )
            out[i] = image
        return torch.from_numpy(out)

    def select(self, limit: int, seed: int) -> Source:
        """Exactly `limit` images of each class, chosen at random by `seed`, in sorted order.

        Images are ranked by blake2b(seed, class name, key): a class's choice depends neither on the other
        classes nor on the Python version, and a smaller limit chooses a subset of a larger one's.
        Raises: DataError when a class has fewer, or `limit` is below 1.
        """
        if limit < 1:
            raise DataError(f"{limit} images per class were asked for; ask for 1 or more")
        for name, count in zip(self.class_names, self.counts, strict=True):
            if count < limit:
                raise DataError(f"class {name!r} has {count} images, {limit} were asked for; ask for {count} or fewer")

        return self.at_most(limit, seed)

    def at_most(self, limit: int, seed: int) -> Source:
        """Like `select`, but a class with fewer images keeps all it has."""

        def chosen(name: str, keys: tuple[str, ...]) -> tuple[str, ...]:
            picked = set(sorted(keys, key=lambda key: hashed(str(seed), name, key))[:limit])
            return tuple(key for key in keys if key in picked)

        kept = tuple(chosen(name, keys) for name, keys in zip(self.class_names, self.keys, strict=True))
        return replace(self, keys=kept)

    def restrict(self, class_names: Sequence[str]) -> Source:
        """Only these classes, labelled in the order given. Raises: DataError naming the missing ones."""
        label_of = {name: label for label, name in enumerate(self.class_names)}
        require_classes(class_names, label_of, self.name)
        labels = tuple(label_of[name] for name in class_names)
        keys = tuple(self.keys[label] for label in labels)
        reader = _Relabelled(self.read_bytes, labels)
        return replace(self, class_names=tuple(class_names), keys=keys, read_bytes=reader)

    def with_format(self, *, size: int | None = None, mode: str | None = None) -> Source:
        """The same images in another `size` or `mode`; None leaves it as it is. Raises: DataError."""
        other = replace(self, size=self.size if size is None else size, mode=self.mode if mode is None else mode)
        return _knowing(other, self.__dict__.get("class_digests"))

    def checked(self, on_bad: str = "fail", progress: Progress | None = None) -> Source:
        """The same source after every image has been decoded once; its digests are known from the same pass.

        on_bad    "fail": unreadable images are an error; "skip": they are left out and listed in `skipped`
        progress  called as (images done, images in all) after each class
        Raises: DataError naming unreadable files (fail), or a class with none left (skip).
        """
        if on_bad not in ("fail", "skip"):
            raise DataError(f"on_bad_image is {on_bad!r}; use 'fail' or 'skip'")
        kept, digests, bad, done = [], [], [], 0
        for label, keys in enumerate(self.keys):
            work = partial(inspect, self.read_bytes, self.mode, label)
            results = list(zip(keys, each(work, keys), strict=True))
            bad += [(self.title(label, key), reason) for key, (_, reason) in results if reason]
            kept.append(tuple(key for key, (_, reason) in results if not reason))
            digests.append([digest for _, (digest, reason) in results if not reason])
            done += len(keys)
            if progress:
                progress(done, sum(self.counts))
        if bad and on_bad == "fail":
            shown = ", ".join(f"{title!r} ({reason})" for title, reason in bad[:3])
            raise DataError(
                f"{len(bad)} of {sum(self.counts)} images in {self.name!r} cannot be read: {shown}"
                f"{', ...' if len(bad) > 3 else ''}; mend them, or leave them out with --on-bad-image skip"
            )
        for name, keys, before in zip(self.class_names, kept, self.counts, strict=True):
            if before and not keys:
                raise DataError(f"class {name!r} in {self.name!r} has no readable image: all {before} are damaged")
        other = replace(self, keys=tuple(kept), skipped=self.skipped + tuple(bad))
        return _knowing(other, other._digests(digests))

    def _pixels(self, label: int, key: str) -> NDArray[np.uint8]:
        try:
            image = decode(self.read_bytes(label, key), self.mode)
        except (DataError, OSError) as error:
            raise self._unreadable(label, key, error) from None
        return pixels(image if self.size is None else fit(image, self.size))

    def _file_digest(self, label: int, key: str) -> bytes:
        try:
            return hashed(self.read_bytes(label, key))
        except (DataError, OSError) as error:
            raise self._unreadable(label, key, error) from None

    def _unreadable(self, label: int, key: str, error: Exception) -> DataError:
        return DataError(
            f"{self.title(label, key)!r} in {self.name!r} cannot be read: {reason_of(error)};"
            " mend it, or leave such files out with --on-bad-image skip"
        )

    def _digests(self, files: Sequence[Sequence[bytes]]) -> tuple[str, ...]:
        classes = zip(self.class_names, self.keys, files, strict=True)
        return tuple(hashed(name, *keys, *digests).hex() for name, keys, digests in classes)


def require_classes(wanted: Collection[str], present: Collection[str], name: str) -> None:
    """Raise DataError naming those of `wanted` that the dataset `name` does not have."""
    if missing := [class_name for class_name in wanted if class_name not in present]:
        raise DataError(
            f"{name!r} lacks {len(missing)} of the {len(wanted)} classes asked for"
            f" ({', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}):"
            f" {unknown('class', missing[0], present)}"
        )


@dataclass(frozen=True)
class _Relabelled:
    """A reader whose labels count through some classes of another reader."""

    read_bytes: Callable[[int, str], bytes]
    labels: tuple[int, ...]

    def __call__(self, label: int, key: str) -> bytes:
        return self.read_bytes(self.labels[label], key)


def _knowing(source: Source, digests: tuple[str, ...] | None) -> Source:
    """`source` with its digests filled in: the one place where the cached property is written from outside."""
    if digests is not None:
        source.__dict__["class_digests"] = digests
    return source
