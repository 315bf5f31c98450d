"""What a person sees: progress, results, one line for a known failure. Talk goes to stderr, data to stdout.

Bars are for terminals; on a pipe a plain line every ten seconds says the same. Library code never prints.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from dap.errors import DapError, DapWarning, out_of_memory

PLAIN_SECONDS = 10.0
FAILED, INTERRUPTED = 1, 130


class Talk:
    """How much is said, and where: `quiet` says nothing but errors, `as_json` keeps stdout for one JSON object."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """One line of talk on stderr, shown as it stands (class names are not markup)."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Shows dap's own warnings as lines of talk, and Python's as Python does."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", DapWarning)
            shown = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
                if issubclass(category, DapWarning):
                    self.say(f"note: {message}")
                else:
                    shown(message, category, *where, **more)

            warnings.showwarning = show
            yield

    def next(self, command: Sequence[str]) -> None:
        """The last line of talk: what to type next."""
        self.say(f"next: {shlex.join(command)}")

    def result(self, record: Mapping[str, Any], table: RenderableType | None = None) -> None:
        """The command's answer on stdout: the JSON object when asked for, else the table or text."""
        if self.as_json:
            print(json.dumps(record, allow_nan=False, ensure_ascii=False), flush=True)
        elif table is not None:
            # a pipe has no width: give the table room instead of rich's 80 columns
            width = None if sys.stdout.isatty() else 200
            console = Console(highlight=False, emoji=False, width=width)
            console.print(escape(table) if isinstance(table, str) else table, soft_wrap=isinstance(table, str))

    @contextmanager
    def progress(self, what: str, total: float) -> Iterator[Meter]:
        """A bar with time left, or plain lines on a pipe; `total` in whatever the meter's `at` counts."""
        if self.console.is_terminal and not self.quiet:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeLeft(elapsed_when_finished=True),
            )
            with Bars(*columns, console=self.console) as bars:
                yield Meter(self, what, total, bars)
        else:
            yield Meter(self, what, total, None)


class Bars(Progress):
    """Bars with each one's note on a line of its own: beside the bar it would leave no room for the time left."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, then what there is to say of them."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if note := task.fields.get("note"):
                yield Text(f"  {note}", no_wrap=True, overflow="ellipsis")


class TimeLeft(TimeRemainingColumn):
    """The time left that a command knows better than the rate so far would have it, where it says so."""

    def render(self, task: Task) -> Text:
        """H:MM:SS, dashes where it cannot be told."""
        left = task.fields.get("left")
        if left is None or task.finished:
            return super().render(task)
        if not math.isfinite(left):
            return Text("-:--:--", style="progress.remaining")
        return Text(str(timedelta(seconds=round(left))), style="progress.remaining")


class Meter:
    """One running progress display."""

    def __init__(self, talk: Talk, what: str, total: float, bars: Progress | None) -> None:
        self._talk, self._what, self._total, self._bars = talk, what, total, bars
        self._began = self._said = time.monotonic()
        self._first: float | None = None
        self._task = None if bars is None else bars.add_task(what, total=total, note="", left=None)

    def at(self, done: float, note: str = "", total: float | None = None, left: float | None = None) -> None:
        """`done` of the total is behind us; `note` is whatever else is worth a word; a new `total` replaces the old.

        left  seconds, infinite where they cannot be told yet; None: by the rate so far
        """
        if total is not None and total != self._total:  # another phase: its rate is its own
            self._total, self._first, self._began = total, None, time.monotonic()
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=self._total, note=note, left=left)
            return
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            rate = (done - self._first) / (now - self._began)
            if left is None:
                left = (self._total - done) / rate if rate > 0 else math.inf
            known = f", {duration(left)} left" if math.isfinite(left) else ""
            self._talk.say(f"{self._what}: {done:g} of {self._total:g}{known}{f', {note}' if note else ''}")


@contextmanager
def saving(saved: Callable[[], str]) -> Iterator[None]:
    """Has Ctrl-C inside say what is saved by then, in the words of `saved`."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(str(stopped) or saved()) from None


@contextmanager
def known_failures() -> Iterator[None]:
    """Errors of dap become one line and exit 1, Ctrl-C exit 130 and how to go on; `DAP_DEBUG=1` keeps traces."""
    try:
        yield
    except DapError as error:
        if os.environ.get("DAP_DEBUG") == "1":
            raise
        print(f"dap: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt as stopped:
        saved, again = str(stopped) or "what was saved is kept", shlex.join(["dap", *sys.argv[1:]])
        print(f"\ndap: interrupted; {saved}. To go on: {again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or os.environ.get("DAP_DEBUG") == "1":
            raise
        print(
            "dap: out of memory; lower --set run.micro_batch, guidance.reference_size (dap distill), train.batch "
            "(dap train), or the batch of a --protocol of your own (dap evaluate), or use another --device",
            file=sys.stderr,
        )
        raise typer.Exit(FAILED) from None
    except OSError as error:
        if os.environ.get("DAP_DEBUG") == "1" or error.errno is None:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"dap: {error.strerror or error}{where}", file=sys.stderr)
        raise typer.Exit(FAILED) from None


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: int, what: str) -> str:
    """1 set, 2 sets."""
    return f"{number} {what}{'' if number == 1 else 's'}"
