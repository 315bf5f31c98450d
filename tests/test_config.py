"""Settings: what is refused, in which words; how files, overrides and tables combine; digests."""

from pathlib import Path
from typing import Any

import pytest

from dap import config as settings
from dap.config import Config, as_record, build, digest, load_config
from dap.errors import ConfigError, DapError


def refused(*overrides: str, **tables: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides, **tables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_nothing_gives_the_defaults() -> None:
    assert load_config() == Config()


def test_file_then_overrides_then_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[run]\nipc = 1\nseed = 1\n[guidance]\nname = "dap-paper"\ngamma = 2\n[sampling]\nsteps = 7\n')
    config = load_config(path, ["run.ipc=2", "run.seed=2", "guidance.gamma=3"], run={"seed": 3})
    assert (config.run.ipc, config.run.seed, config.sampling.steps) == (2, 3, 7)
    assert (config.guidance.name, dict(config.guidance.options)) == ("dap-paper", {"gamma": 3})


@pytest.mark.parametrize(
    ("text", "table", "field", "value"),
    [
        ("backbone.cfg_scale=4", "backbone", "cfg_scale", 4.0),
        ("backbone.cfg_channels=3", "backbone", "cfg_channels", 3),
        ("backbone.cfg_channels=all", "backbone", "cfg_channels", "all"),
        ('backbone.name="digits"', "backbone", "name", "digits"),
        ("data.source=digits:train", "data", "source", "digits:train"),
        ("data.source=/a b/c=d", "data", "source", "/a b/c=d"),
        (" train.flip = false ", "train", "flip", False),
        ("train.size=32", "train", "size", 32),
        ("train.rate=1e-3", "train", "rate", 1e-3),
        ('evaluation.networks=["resnet18", "convnet-3"]', "evaluation", "networks", ("resnet18", "convnet-3")),
        ("evaluation.networks=[]", "evaluation", "networks", ()),
        ("evaluation.flip=true", "evaluation", "flip", True),
    ],
)
def test_overrides_are_toml_values_or_bare_words(text: str, table: str, field: str, value: Any) -> None:
    read = getattr(getattr(load_config(None, [text]), table), field)
    assert read == value
    assert type(read) is type(value)


def test_guidance_keeps_what_it_does_not_know_for_the_guidance() -> None:
    config = load_config(None, ["guidance.strength=0.1", "guidance.kernel=rbf", "guidance.interval=[0, 0.5]"])
    assert config.guidance.name == "dap"
    assert dict(config.guidance.options) == {"strength": 0.1, "kernel": "rbf", "interval": [0, 0.5]}
    assert dict(load_config(guidance={"options": {"gamma": 1.0}}).guidance.options) == {"gamma": 1.0}


@pytest.mark.parametrize("text", ["guidance.strength", "strength=0.1", "=1", "guidance.=1", ".strength=1", ""])
def test_an_override_that_is_none_says_how_to_write_it(text: str) -> None:
    said = refused(text)
    assert repr(text) in said
    assert "write it as table.key=value" in said


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration '.*none.toml': No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)
    for content in (b"[run\nipc = 1", b"a = \xff\xfe", b"[run]\nipc = 1\nipc = 2"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigError, match="is not valid TOML"):
            load_config(tmp_path / "bad.toml")


# --- unknown names and wrong types ------------------------------------------------------------------------------------


def test_unknown_tables_and_keys_give_the_nearest_name(tmp_path: Path) -> None:
    assert "unknown config table 'guidence'; did you mean 'guidance'" in refused("guidence.strength=1")
    assert "unknown key in [run] 'icp'; did you mean 'ipc'" in refused("run.icp=1")
    assert "unknown key in [sampling] 'step'; did you mean 'steps'" in refused(sampling={"step": 3})
    (tmp_path / "a.toml").write_text("ipc = 3\n")
    with pytest.raises(ConfigError, match="unknown config table 'ipc'"):
        load_config(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("run = 3\n")
    with pytest.raises(ConfigError, match=r"run is 3; it is a table of settings"):
        load_config(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run.ipc=ten", "run.ipc is 'ten'; it must be int"),
        ("run.ipc=1.5", "run.ipc is 1.5; it must be int"),
        ("run.ipc=true", "run.ipc is True; it must be int"),
        ("sampling.eta=high", "sampling.eta is 'high'; it must be float"),
        ("data.split=3", "data.split is 3; it must be str"),
        ("train.flip=1", "train.flip is 1; it must be bool"),
        ("backbone.cfg_channels=1.5", "backbone.cfg_channels is 1.5; it must be int or str"),
        ("evaluation.networks=resnet18", "evaluation.networks is 'resnet18'; it must be "),
        ("evaluation.networks=[1]", "evaluation.networks is 1; it must be str"),
        ("run.chunk=[1]", "run.chunk is [1]; it must be int"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_the_right_one(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data.mode=grey", "data.mode is 'grey'; use 'RGB' or 'L'"),
        ("data.on_bad_image=ignore", "'ignore'; use 'fail' or 'skip'"),
        ("backbone.cfg_scale=0.5", "backbone.cfg_scale is 0.5"),
        ("backbone.cfg_scale=nan", "backbone.cfg_scale is nan"),
        ("backbone.cfg_channels=0", "backbone.cfg_channels is 0; use 3 or 'all'"),
        ("backbone.cfg_channels=some", "backbone.cfg_channels is 'some'"),
        ("sampling.scheduler=ddmp", "unknown scheduler 'ddmp'; did you mean 'ddpm'"),
        ("sampling.steps=0", "sampling.steps is 0; use 1 to 1000"),
        ("sampling.steps=1001", "sampling.steps is 1001"),
        ("sampling.eta=1.5", "sampling.eta is 1.5"),
        ("sampling.eta=0.5", "sampling.eta needs the ddim scheduler: --set sampling.scheduler=ddim"),
        ("run.ipc=0", "ipc is 0; images per class must be 1 to 5000"),
        ("run.ipc=5001", "ipc is 5001"),
        ("run.seed=-1", "run.seed is -1"),
        ("run.chunk=0", "run.chunk is 0"),
        ("run.micro_batch=0", "run.micro_batch is 0"),
        ("train.steps=0", "train.steps is 0; use 1 or more"),
        ("train.batch=0", "train.batch is 0"),
        ("train.heads=3", "train.width 128 is not a multiple of train.heads 3"),
        ("train.schedule=linear", "train.schedule is 'linear'; use 'cosine' or 'constant'"),
        ("train.label_dropout=1", "train.label_dropout is 1"),
        ("train.ema=1", "train.ema is 1"),
        ("train.rate=0", "train.rate and train.clip must be above 0"),
        ("train.rate=nan", "train.rate and train.clip must be above 0"),
        ("evaluation.repeats=0", "evaluation.repeats is 0"),
        ("evaluation.epochs_scale=0", "evaluation.epochs_scale is 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_would_work(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_config_error_is_a_dap_error_and_a_value_error() -> None:
    assert issubclass(ConfigError, DapError)
    assert issubclass(ConfigError, ValueError)


# --- records ----------------------------------------------------------------------------------------------------------


def test_the_digest_sees_values_and_not_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, {"c": None, "d": 2.5}]}) == digest({"b": [1, {"d": 2.5, "c": None}], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"a": "ü\n"}) == digest({"a": "ü\n"})
    assert len(digest({})) == 16


@pytest.mark.parametrize("name", sorted(n for n in settings.__all__ if n.endswith("Config")))
def test_every_table_survives_the_way_through_its_record(name: str) -> None:
    import json

    kind = getattr(settings, name)
    record = json.loads(json.dumps(as_record(kind())))
    if kind is Config:
        assert load_config(**record) == kind()
    else:
        assert build(kind, record, "x") == kind()


def test_settings_are_frozen_and_keyword_only() -> None:
    from dataclasses import FrozenInstanceError

    with pytest.raises(FrozenInstanceError):
        Config().run.ipc = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.RunConfig(3)  # type: ignore[misc]
