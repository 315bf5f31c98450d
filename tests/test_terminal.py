"""What a person sees."""

import io
import math
import re

import pytest
import typer
from rich.console import Console

from dap.terminal import Talk, duration, known_failures, saving


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0, 8.4, 200, 7500)] == ["0 s", "8 s", "3 min 20 s", "2 h 5 min"]


def test_on_a_pipe_progress_is_plain_lines_and_rare(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr("dap.terminal.time.monotonic", lambda: next(clock))
    with Talk().progress("distil", 100) as meter:
        for done in (0, 10, 11, 20):
            meter.at(done, "so far")
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["distil: 10 of 100, 1 min 39 s left, so far", "distil: 20 of 100, 1 min 28 s left, so far"]


def test_a_command_that_knows_the_time_left_better_is_believed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 11.0, 22.0])
    monkeypatch.setattr("dap.terminal.time.monotonic", lambda: next(clock))
    with Talk().progress("distil", 100) as meter:
        for done, left in ((0, None), (10, 7.0), (20, math.inf)):
            meter.at(done, left=left)
    assert capsys.readouterr().err.splitlines() == ["distil: 10 of 100, 7 s left", "distil: 20 of 100"]
    talk = Talk()
    talk.console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.undo()
    with talk.progress("distil", 10) as meter:
        meter.at(1, left=3723.0)
        meter.at(2, left=math.inf)
    shown = talk.console.file.getvalue()  # type: ignore[attr-defined]
    assert "-:--:--" in shown


def test_whoever_interrupts_hears_what_is_saved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dap", "distill", "digits:train"])
    for words, said in (
        (lambda: "3 of 4 images are saved", "3 of 4 images are saved"),
        (str, "what was saved is kept"),
    ):
        with pytest.raises(typer.Exit) as stopped, known_failures(), saving(words):
            raise KeyboardInterrupt
        assert stopped.value.exit_code == 130
        assert f"interrupted; {said}. To go on: dap distill digits:train" in capsys.readouterr().err


def test_a_narrow_terminal_has_room_for_the_time_left_and_the_note() -> None:
    talk, note = Talk(), "chunk 2 of 3, 100 of 150 images, 26.2 images/s, D_K 22.1"
    talk.console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with talk.progress("distil runs/of/this/week/d-10", 10) as meter:
        meter.at(1, "so far")
        meter.at(10, note)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", talk.console.file.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert any("10/10" in line and re.search(r"\d:\d\d:\d\d", line) for line in lines)
    assert any(line.strip() == note for line in lines)


def test_quiet_says_nothing_but_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk(quiet=True)
    talk.say("hello")
    talk.result({"a": 1}, "text")
    assert capsys.readouterr() == ("text\n", "")


def test_names_are_not_markup_on_a_terminal_either() -> None:
    talk = Talk()
    talk.console = Console(file=io.StringIO(), force_terminal=True, width=120, emoji=False, highlight=False)
    with talk.progress("distil out[/x]", 2) as meter:
        meter.at(1, "[bold :cat:")
    talk.next(["dap", "verify", "a :cat: b"])
    text = talk.console.file.getvalue()  # type: ignore[attr-defined]
    assert "distil out[/x]" in text
    assert "[bold :cat:" in text
    assert "dap verify 'a :cat: b'" in text
