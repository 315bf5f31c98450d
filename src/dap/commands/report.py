"""`dap report`: what was written, and what a reader is warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dap.reporting import report
from dap.terminal import Talk, counted


def run_report(sets: list[Path], out: Path | None, talk: Talk) -> dict[str, Any]:
    """The result of `dap.report`, its warnings said."""
    talk.say(f"reading {counted(len(sets), 'set')}")
    result = report(sets, out)
    for line in result["warnings"]:
        talk.say(f"warning: {line}")
    talk.say(f"wrote {len(result['figures'])} figures beside {result['report']}")
    return result
