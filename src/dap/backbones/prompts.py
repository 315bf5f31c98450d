"""What a text-to-image backbone is told: a prompt per class or per image, and the negative prompt.

    template      a photo of a {name}            {name} is the class's name; for a wnid its synset string as it stands
    CSV           class,prompt                   one line a class
                  class,index,prompt             one line an image; a line without index is the class's own prompt

Real images have no index: they are always seen under their class's own prompt. Where a CSV of prompts per image names
none, that is the default template. Lines of classes and images that are not asked for are left alone, so that one file
serves several subsets and numbers of images.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dap.data.imagenet import is_wnid, synset
from dap.errors import ConfigError, DataError
from dap.fields import digest

TEMPLATE = "a photo of a {name}"
HEADERS = (["class", "prompt"], ["class", "index", "prompt"])


@dataclass(frozen=True)
class Prompts:
    """The prompts of a dataset's classes; `read_prompts` makes one from settings.

    class_names  of the dataset, in label order
    template     `{name}` stands for the class
    of_class     class name -> prompt, instead of the template
    of_image     (class name, index) -> prompt, instead of the class's
    negative     what classifier-free guidance leads away from
    chosen       whether the user has said anything about prompts
    """

    class_names: tuple[str, ...]
    template: str = TEMPLATE
    of_class: Mapping[str, str] = field(default_factory=dict)
    of_image: Mapping[tuple[str, int], str] = field(default_factory=dict)
    negative: str = ""
    chosen: bool = False

    def text(self, label: int, index: int | None = None) -> str:
        """The prompt of image `index` of a class; None: of the class as such.

        Raises: DataError for an image that the CSV lacks, or a wnid outside ImageNet-1K under a template.
        """
        name = self.class_names[label]
        if index is not None and (name, index) in self.of_image:
            return self.of_image[name, index]
        if index is not None and self.of_image and name not in self.of_class:
            raise DataError(
                f"the prompts have no line for image {index} of class {name!r}; add {name},{index},PROMPT to the CSV,"
                f" or {name},,PROMPT for all of the class's images"
            )
        if name in self.of_class:
            return self.of_class[name]
        try:
            return self.template.replace("{name}", synset(name) if is_wnid(name) else name)
        except DataError as error:
            raise DataError(
                f"{error}; say what it is in a CSV class,prompt with the line {name},PROMPT: "
                "--set backbone.prompts=FILE.csv"
            ) from None

    def told(self) -> list[str]:
        """Every prompt that may be told: the classes' own, their images', and the negative one."""
        own = [self.text(label) for label in range(len(self.class_names))]
        names = set(self.class_names)
        return [*own, *(text for (name, _), text in self.of_image.items() if name in names), self.negative]

    def record(self) -> dict[str, Any]:
        """What of it determines the pixels, fit for JSON."""
        rows = sorted([name, index, text] for (name, index), text in self.of_image.items() if name in self.class_names)
        return {
            "classes": [self.text(label) for label in range(len(self.class_names))],
            "images": digest(rows) if rows else None,
            "negative": self.negative,
        }


def read_prompts(
    class_names: Sequence[str],
    template: str | None = None,
    table: str | Path | None = None,
    negative: str | None = None,
    images: int = 1,
) -> Prompts:
    """The prompts that `[backbone] prompt`, `prompts` (a CSV) and `negative_prompt` describe, for `images` a class.

    Raises: ConfigError for a template without {name} or beside a CSV; DataError for a CSV that cannot be read, is
    malformed, says something twice, or lacks a class or one of its images.
    """
    names = tuple(class_names)
    if template is not None and table is not None:
        raise ConfigError("backbone.prompt and backbone.prompts are both given; keep the template or the CSV")
    if template is not None and "{name}" not in template:
        raise ConfigError(f"the prompt {template!r} is the same for all classes; write {{name}}, e.g. {TEMPLATE!r}")
    chosen = any(setting is not None for setting in (template, table, negative))
    if table is None:
        return Prompts(names, template or TEMPLATE, negative=negative or "", chosen=chosen)
    of_class, of_image = _read(Path(table).expanduser())
    missing = [name for name in names if name not in of_class]
    if missing and not of_image:
        named = ", ".join(sorted(of_class)[:5]) + (", ..." if len(of_class) > 5 else "") or "none"
        more = f" (and {len(missing) - 1} more classes)" if len(missing) > 1 else ""
        raise DataError(
            f"the prompts {str(table)!r} have no line for class {missing[0]!r}{more}; the classes in it are {named}"
        )
    prompts = Prompts(names, TEMPLATE, of_class, of_image, negative or "", chosen)
    for label in range(len(names) if of_image else 0):
        for index in range(images):
            prompts.text(label, index)
    return prompts


def _read(path: Path) -> tuple[dict[str, str], dict[tuple[str, int], str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the prompts {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    if not rows or rows[0] not in HEADERS:
        headers = " or ".join(",".join(header) for header in HEADERS)
        raise DataError(f"the prompts {str(path)!r} must begin with the line {headers}")
    of_class: dict[str, str] = {}
    of_image: dict[tuple[str, int], str] = {}
    for row in rows[1:]:
        if len(row) != len(rows[0]) or not row[0] or not row[-1]:
            raise DataError(
                f"the prompts {str(path)!r} have the line {','.join(row)!r}; write {','.join(rows[0])}, and quotes "
                "around a prompt with a comma"
            )
        name, index, text = row[0], row[1] if len(row) == 3 else "", row[-1]
        if index and not (index.isascii() and index.isdigit()):
            raise DataError(f"the prompts {str(path)!r} have the index {index!r} for {name!r}; images count from 0")
        twice = (name, int(index)) in of_image if index else name in of_class
        if twice:
            raise DataError(f"the prompts {str(path)!r} have {','.join(row[:-1])!r} twice; keep one line")
        if index:
            of_image[name, int(index)] = text
        else:
            of_class[name] = text
    return of_class, of_image
