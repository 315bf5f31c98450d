"""Commands as a user types them, run in this process: importing torch and diffusers anew costs seconds each time."""

from __future__ import annotations

from dataclasses import dataclass

from typer.testing import CliRunner

from dap.cli import app


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def dap(*words: object) -> Done:
    """`dap WORDS`. Raises what is no message to the user."""
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="dap")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)
