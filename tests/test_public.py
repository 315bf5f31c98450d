"""The public surface: complete, documented, light to import; and the command's flags, which must not creep."""

import subprocess
import sys

import pytest

import dap
from dap.cli import app

FLAGS = {
    "demo": {"out", "ipc", "as_json", "quiet"},
    "train": {
        "data",
        "out",
        "start",
        "vae",
        "size",
        "steps",
        "seed",
        "half",
        "split",
        "subset",
        "on_bad_image",
        "device",
    }
    | {"config", "set_", "as_json", "quiet"},
    "convert": {"checkpoint", "out", "arch", "vae", "as_json", "quiet"},
    "distill": {
        "data",
        "out",
        "backbone",
        "ipc",
        "guidance",
        "seed",
        "seeds",
        "reference_cache",
        "only",
        "trace",
        "dry_run",
        "arch",
        "vae",
        "dtype",
        "compile_",
        "prompt",
        "split",
        "subset",
    }
    | {"class_map", "on_bad_image", "device", "config", "set_", "as_json", "quiet"},
    "teacher": {"data", "out", "network", "protocol", "test", "seed", "epochs_scale", "split", "subset", "device"}
    | {"config", "set_", "as_json", "quiet"},
    "evaluate": {"sets", "test", "real", "protocol", "network", "repeats", "baseline", "device"}
    | {"scores", "epochs_scale", "val_fraction", "table", "cache"}
    | {"teacher", "teacher_network", "teacher_classes", "dtype", "compile_", "list_"}
    | {"config", "set_", "as_json", "quiet"},
    "measure": {"sets", "reference", "test", "backbone", "features", "device"} | {"config", "set_", "as_json", "quiet"},
    "report": {"sets", "out", "as_json", "quiet"},
    "verify": {"directory", "as_json", "quiet"},
}


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(dap.__all__) == sorted([*dap._MODULE_OF, "__version__"])
    for name in dap.__all__:
        value = getattr(dap, name)
        assert name in ("__version__", "PROTOCOLS") or value.__doc__, f"dap.{name} has no docstring"


def test_the_public_function_is_not_shadowed_by_a_module() -> None:
    import dap.distillation
    import dap.evaluation

    assert callable(dap.distill)
    assert callable(dap.evaluate)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="distil_"):
        dap.distil_  # noqa: B018


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["distill", "--help"]])
def test_help_imports_no_torch(command: list[str]) -> None:
    code = (
        "import sys; from dap.cli import app\n"
        f"try: app({command!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'datasets', 'sklearn', 'timm', 'matplotlib', 'numpy'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_flags_are_few_and_frozen() -> None:
    found = {c.callback.__name__: set(c.callback.__annotations__) - {"return"} for c in app.registered_commands}
    assert found == FLAGS
