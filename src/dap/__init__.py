"""dap: dataset distillation by diffusion models guided with their own features.

    config = dap.load_config(data={"source": "photos:train"}, backbone={"name": "photos-model"}, run={"ipc": 10})
    dap.distill(config, "photos-10")
    dap.evaluate(["photos-10"], "photos:test")

Names are imported when they are first used, so that `import dap` and `dap --help` stay instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dap._version import __version__

if TYPE_CHECKING:
    from dap.backbones import open_backbone
    from dap.config import (
        BackboneConfig,
        Config,
        DataConfig,
        EvaluationConfig,
        GuidanceConfig,
        MetricsConfig,
        RunConfig,
        SamplingConfig,
        TrainConfig,
        load_config,
    )
    from dap.data import Source, open_dataset
    from dap.distillation import distill, open_job
    from dap.errors import BackboneError, ConfigError, DapError, DataError, SamplingError, StoreError
    from dap.evaluation import PROTOCOLS, evaluate
    from dap.metrics import measure
    from dap.reporting import report
    from dap.store import Store

_HOME = {
    "dap.backbones": ("open_backbone",),
    "dap.config": (
        "BackboneConfig",
        "Config",
        "DataConfig",
        "EvaluationConfig",
        "GuidanceConfig",
        "MetricsConfig",
        "RunConfig",
        "SamplingConfig",
        "TrainConfig",
        "load_config",
    ),
    "dap.data": ("Source", "open_dataset"),
    "dap.distillation": ("distill", "open_job"),
    "dap.errors": ("BackboneError", "ConfigError", "DapError", "DataError", "SamplingError", "StoreError"),
    "dap.evaluation": ("PROTOCOLS", "evaluate"),
    "dap.metrics": ("measure",),
    "dap.reporting": ("report",),
    "dap.store": ("Store",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "PROTOCOLS",
    "BackboneConfig",
    "BackboneError",
    "Config",
    "ConfigError",
    "DapError",
    "DataConfig",
    "DataError",
    "EvaluationConfig",
    "GuidanceConfig",
    "MetricsConfig",
    "RunConfig",
    "SamplingConfig",
    "SamplingError",
    "Source",
    "Store",
    "StoreError",
    "TrainConfig",
    "__version__",
    "distill",
    "evaluate",
    "load_config",
    "measure",
    "open_backbone",
    "open_dataset",
    "open_job",
    "report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dap' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value
