"""What a distilled set is worth: networks trained on it under a stated protocol, judged on real test data."""

from dap.evaluation.batches import Labelled
from dap.evaluation.fit import Fit, fit
from dap.evaluation.networks import NETWORKS, build_network, count_parameters, network_size
from dap.evaluation.protocols import PROTOCOLS, Plan, Protocol, get_protocol
from dap.evaluation.run import evaluate
from dap.evaluation.scores import Score, paired_difference, score
from dap.evaluation.sets import BASELINES

__all__ = [
    "BASELINES",
    "NETWORKS",
    "PROTOCOLS",
    "Fit",
    "Labelled",
    "Plan",
    "Protocol",
    "Score",
    "build_network",
    "count_parameters",
    "evaluate",
    "fit",
    "get_protocol",
    "network_size",
    "paired_difference",
    "score",
]
