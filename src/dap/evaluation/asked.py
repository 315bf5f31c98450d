"""What is asked of an evaluation, checked by its words alone: a wrong name is told before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dap.config import EvaluationConfig
from dap.errors import ConfigError
from dap.evaluation.networks import network_name
from dap.evaluation.protocols import Protocol, get_protocol
from dap.evaluation.sets import check_baselines


def asked(
    config: EvaluationConfig, sets: Sequence[Any], test: Any, real: Any, baselines: Sequence[str]
) -> tuple[Protocol, tuple[str, ...]]:
    """The protocol, and the networks to train, each once.

    Raises: ConfigError for unknown names, no sets, and nothing to judge on.
    """
    protocol = get_protocol(config.protocol, config.flip)
    protocol = protocol if config.evaluations is None else replace(protocol, evaluations=config.evaluations)
    networks = tuple(dict.fromkeys(network_name(network) for network in config.networks or (protocol.network,)))
    check_baselines(baselines)
    if not sets:
        raise ConfigError("no set to evaluate; name at least one: dap evaluate DIR --test DATA")
    if config.val_fraction is not None and real is None:
        raise ConfigError("a validation fraction needs the training data to split: add --real DATA")
    if config.val_fraction is None and test is None:
        raise ConfigError("no test data; add --test DATA (or --real DATA --val-fraction 0.1 to judge without them)")
    return protocol, networks
