"""What is written down about a distilled dataset, as pure functions: folder names and the card.

torchvision and Hugging Face both number classes by the sorted names of their folders, and Hugging Face takes
some words for names of splits. Class names come from the user's data: nothing here trusts them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from dap.config import digest

LONGEST_FOLDER = 100  # bytes of UTF-8: file systems allow 255, Windows 260 for the whole path
# what Windows forbids, then wildcards and variables: datasets expands "$HOME" in the path of a file
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\[\]$%]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(?=\.|$)", re.IGNORECASE)

# datasets.data_files (5.2): a folder is a split when one of these words stands in its name between separators
# [-._ 0-9] or the name's ends; `+` is no separator. It heeds case; a later version need not.
_SPLIT_WORD = re.compile(
    r"(?:(?<=[-._ 0-9])|^)(train(ing)?|validation|valid|dev|val|test(ing)?|eval|evaluation)(?=[-._ 0-9]|$)",
    re.IGNORECASE,
)


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """One folder name a class, distinct and sorting in label order, safe on Linux, macOS and Windows.

    The classes' own names, cleaned, where these sort in label order; else all get the zero-padded label
    in front: ("cat", "dog") stay, ("dog", "cat") become ("0_dog", "1_cat"). "bullet train" is "bullet+train".
    """
    names = tuple(_clean(name) for name in class_names)
    folded = {name.casefold() for name in names}  # macOS and Windows take "A" and "a" for one folder
    if list(names) == sorted(names) and len(folded) == len(names):
        return names
    digits = len(str(len(names) - 1))
    return tuple(f"{label:0{digits}d}_{name}" for label, name in enumerate(names))


def _clean(name: str) -> str:
    text = unicodedata.normalize("NFC", name)
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    text = _FORBIDDEN.sub("_", text)
    text = text.encode()[:LONGEST_FOLDER].decode(errors="ignore")
    text = re.sub(r"^(?:[. ~]|__+)+", "", text).rstrip(". ")  # datasets skips folders that begin with "." or "__"
    text = _DEVICE.sub(r"\1_", text, count=1) if _DEVICE.match(text) else text
    return _hide_split_words(text) or "class"


def _hide_split_words(text: str) -> str:
    """Join words that Hugging Face takes for splits to a neighbour: "bullet+train", "train+set", "train+"."""
    at = 0
    while found := _SPLIT_WORD.search(text, at):
        start, end = found.span()
        if start > 0:  # in front, where "00_" does not undo it; a digit is kept, another separator replaced
            text = text[: start if text[start - 1].isdigit() else start - 1] + "+" + text[start:]
        else:
            text = text[:end] + "+" + text[end if text[end : end + 1].isdigit() else end + 1 :]
        at = start + 1
    return text


def card(config: Mapping[str, Any], images: int, planned: int) -> str:
    """The text of README.md, the same for the same arguments; `config` is the record in config.json."""
    title = f"{_source(config)}, distilled to {images} images"
    body = "\n\n".join(
        (
            _header(config, title, images),
            f"# {_plain(title)}",
            "A tiny synthetic training set, sampled from a pretrained diffusion model by `dap` "
            "(diffusion-as-priors). It stands in for the large dataset named below when a network is to be "
            "trained quickly."
            + _begun(config)
            + ("" if images == planned else f" **Unfinished: {images} of {planned} images.**"),
            "## How it was made\n\n" + _facts(config),
            "## Classes\n\n" + _classes(config["folders"]),
            _LOADING,
            _LIMITS,
        )
    )
    return f"{body}\n\n{_signature(body)}\n"


def share_begun(config: Mapping[str, Any]) -> float:
    """The share of the steps that images took from a real one on; 1: all steps, from noise."""
    start = ((config.get("determines") or {}).get("guidance") or {}).get("start", 1.0)
    return float(start) if isinstance(start, int | float) else 1.0


def _begun(config: Mapping[str, Any]) -> str:
    """A sentence for whoever takes synthetic for unlike any real image, where images began at real ones."""
    share = share_begun(config)
    said = f" Each image began at a real one and took the last {100 * share:.0f} % of the sampler's steps from there:"
    return "" if share == 1 else f"{said} `dap measure` and `dap report` show how near to it it stayed."


def is_edited(text: str) -> bool:
    """Whether a README.md is not, or no longer, as `card` wrote it: then it is the user's, and stays."""
    body, _, last = text.rstrip("\n").rpartition("\n\n")
    return last != _signature(body)


def _signature(body: str) -> str:
    return f"<!-- written by dap, check {digest(body)}; once edited, dap leaves this file alone -->"


def _source(config: Mapping[str, Any]) -> str:
    return _last_part(_table(config, "data").get("source")) or "an image dataset"


def _last_part(name: object) -> str:
    """A path without its folders: a card is published, a home directory should not be. Hub ids keep their owner."""
    text = str(name or "")
    return text if re.fullmatch(r"(hf:)?[\w.-]+/[\w.-]+(:\w+)?", text) else re.split(r"[/\\]", text.rstrip("/\\"))[-1]


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get("config", {}).get(name, {})
    return table if isinstance(table, Mapping) else {}


def _header(config: Mapping[str, Any], title: str, images: int) -> str:
    sizes = {1000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    size = next((name for bound, name in sizes.items() if images < bound), "100K<n<1M")
    # data_files names the one split, so that the hub guesses none; labels are kept even for a single class
    return f"""---
license: {_yaml(str(config.get("license", "unknown")))}
pretty_name: {_yaml(title)}
task_categories:
- image-classification
tags:
- dataset-distillation
- synthetic
size_categories:
- {size}
configs:
- config_name: default
  drop_labels: false
  data_files:
  - split: train
    path: "data/**"
---"""


def _facts(config: Mapping[str, Any]) -> str:
    guidance, run, backbone = (_table(config, name) for name in ("guidance", "run", "backbone"))
    rows = {
        "source": _source(config),
        "backbone": _last_part(backbone.get("name")),
        "classifier-free guidance": backbone.get("cfg_scale"),
        "guidance": guidance.get("preset"),
        "its options": {k: v for k, v in guidance.items() if k not in ("preset", "name") and v is not None} or None,
        "sampling": _table(config, "sampling") or None,
        "images per class": run.get("ipc"),
        "seed": run.get("seed"),
        "digest": config.get("digest"),
        "dap": config.get("dap"),
    }
    shown = {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in rows.items() if v is not None}
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {_plain(value)} |" for key, value in shown.items())


def _classes(folders: Mapping[str, str], most: int = 50) -> str:
    rows = [f"| {label} | {_plain(f)} | {_plain(c)} |" for label, (f, c) in enumerate(folders.items())]
    rest = f"\n\n... and {len(rows) - most} more: `config.json` lists all of them." if len(rows) > most else ""
    return "| label | folder in `data/` | class |\n|--:|---|---|\n" + "\n".join(rows[:most]) + rest


_LOADING = """## How to load it

```python
from torchvision.datasets import ImageFolder

train = ImageFolder("data")
```

```python
from datasets import load_dataset

train = load_dataset("imagefolder", data_dir="data", split="train")
```

Both number the classes as the source does. `config.json` maps folders to class names, `manifest.jsonl` lists
each image with its seed and sha256, and `dap verify` on this directory tells whether a file has changed."""

_LIMITS = """## Licence and limits

The images are synthetic, but the model has seen real ones and may reproduce some: the licence of the source
dataset and that of the diffusion model apply. See the source dataset.

A network trained on this set is less accurate than one trained on the source, and inherits what the source
and the diffusion model get wrong. `dap evaluate` measures it; do not use the set to *test* a network."""


def _plain(text: str) -> str:
    """`text` as Markdown that shows it literally, on one line, also inside a table.

    Escaped is what can open markup, HTML, a link or a table cell; other punctuation is harmless within a line.
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:1000])
    line = re.sub(r"([\\`*_\[\]<>&|~$!#@])", r"\\\1", line)
    line = line.replace("://", "\\://").replace("www.", "www\\.")
    line = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)  # a number that would open a list
    return re.sub(r"^([-+=])", r"\\\1", line)


def _yaml(text: str) -> str:
    """`text` as a double-quoted YAML string; JSON's would split characters beyond U+FFFF in two."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{_scalar(c):08x}" for c in text) + '"'


def _scalar(character: str) -> int:
    return 0xFFFD if "\ud800" <= character <= "\udfff" else ord(character)
