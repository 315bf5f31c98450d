"""One HTML file that needs nothing else: text escaped by Jinja, script and style allowed by their hashes alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ROOM = Path(__file__).parent


def render(values: Mapping[str, Any]) -> bytes:
    """The page of `page.page`'s values, UTF-8.

    Every value is text to Jinja and escaped; the pictures' record is JSON in which no markup can begin.
    """
    style, script = (_source(name) for name in ("report.css", "report.js"))
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "require-trusted-types-for 'script'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    environment = Environment(
        loader=FileSystemLoader(ROOM),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rest = {key: value for key, value in values.items() if key != "data"}
    text = environment.get_template("report.html.j2").render(
        **rest, policy=policy, style=Markup(style), script=Markup(script), data=Markup(embedded(values["data"]))
    )
    return text.encode(errors="replace")


def embedded(record: Any) -> str:
    """JSON for a script element: `<`, `>` and `&` are written as escapes, so that no tag can end or begin in it."""
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _source(name: str) -> str:
    return (ROOM / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode()
