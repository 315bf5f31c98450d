"""The tables that a person reads."""

import io

from rich.console import Console

from dap.commands.tables import accuracy_table, percent


def test_accuracies_are_fractions_until_they_are_shown() -> None:
    assert percent({"mean": 0.8731, "sd": 0.0124}) == "87.3 ± 1.2"
    assert percent({"mean": 1.0, "sd": None}) == "100.0"


def test_the_table_has_the_headline_before_the_best() -> None:
    row = {"set": "[red]d", "ipc": None, "network": "convnet-3", "repeats": 2, "seconds": 1.25}
    spread = {"mean": 0.5, "sd": 0.1}
    table = accuracy_table("t", [{**row, "last": spread, "best": {"mean": 0.6, "sd": None}}])
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("last %") < text.index("best %")
    assert "50.0 ± 10.0" in text
    assert "all" in text
    assert "[red]d" in text, "names are shown as they stand"
