"""Networks: the published parameter counts, stems by size, and no size at which one cannot learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dap.errors import ConfigError
from dap.evaluation import NETWORKS, build_network, count_parameters, network_size


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("convnet-6", 224, 754_570),
        ("resnetap-10", 224, 4_910_922),
        ("resnetap-10", 129, 4_910_922),
        ("resnetap-10", 128, 4_903_242),
        ("resnetap-10", 64, 4_903_242),
        ("resnet-18", 224, 11_181_642),
        ("resnet-18", 65, 11_181_642),
        ("resnet-18", 64, 11_173_962),
        ("convnet-3", 32, 3_840 + 2 * 147_840 + (128 * 16 * 10 + 10)),
        ("convnet-4", 64, 3_840 + 3 * 147_840 + (128 * 16 * 10 + 10)),
        ("convnet-2w64", 8, (27 * 64 + 3 * 64) + (9 * 64 * 64 + 3 * 64) + (256 * 10 + 10)),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, size: int, parameters: int) -> None:
    assert count_parameters(build_network(name, 10, size=size)) == parameters


def _first_map(name: str, size: int) -> int:
    """The side of the map that reaches the first residual block."""
    network = build_network(name, 10, size=size)
    with torch.no_grad():
        x = torch.zeros(1, 3, size, size)
        for module in network.children():
            if type(module).__name__ == "_Block":
                return x.shape[-1]
            x = module(x)
    raise AssertionError("no block")


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("resnetap-10", 32, 32),
        ("resnetap-10", 64, 64),
        ("resnetap-10", 96, 48),
        ("resnetap-10", 160, 40),
        ("resnet-18", 64, 64),
        ("resnet-18", 96, 24),
    ],
)
def test_the_stem_follows_the_image_size(name: str, size: int, side: int) -> None:
    assert _first_map(name, size) == side


def test_resnetap_pools_where_others_stride() -> None:
    network = build_network("resnetap-10", 10, size=224)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in convolutions} == {(1, 1)}
    assert sum(isinstance(m, nn.AvgPool2d) for m in network.modules()) == 1 + 3  # the stem, three blocks


@pytest.mark.parametrize("name", ["resnetap-10", "resnet-18"])
def test_resnet_convolutions_start_with_the_stated_spread(name: str) -> None:
    torch.manual_seed(0)
    for conv in (m for m in build_network(name, 10, size=64).modules() if isinstance(m, nn.Conv2d)):
        expected = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.06)
        assert conv.bias is None


def test_every_norm_has_one_channel_a_group() -> None:
    for name in NETWORKS:
        norms = [m for m in build_network(name, 3, size=64).modules() if isinstance(m, nn.GroupNorm)]
        assert norms
        assert all(m.num_groups == m.num_channels and m.affine for m in norms)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_network_learns_from_its_smallest_images(name: str) -> None:
    torch.manual_seed(0)
    size = NETWORKS[name].smallest
    network = build_network(name, 4, size=size)
    out = network(torch.randn(2, 3, size, size))
    out[:, 0].sum().backward()
    assert out.shape == (2, 4)
    assert not torch.allclose(out[0], out[1])
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight.grad
    assert first is not None
    assert first.abs().max() > 0


@pytest.mark.parametrize("name", ["convnet-3", "convnet-4", "resnetap-10", "resnet-18"])
def test_below_the_smallest_size_a_network_would_see_nothing(name: str) -> None:
    """Why images are enlarged: at half that side the last norm has 1x1 maps, and says zero of every image."""
    size = NETWORKS[name].smallest // 2
    network = NETWORKS[name].build(4, 3, 64)
    with torch.no_grad():
        x = torch.randn(2, 3, size, size)
        for module in network[:-2] if "res" in name else network[:-4]:  # type: ignore[index]
            x = module(x)
    assert x.shape[2:] == (1, 1)
    assert torch.allclose(x[0], x[1], atol=1e-4)


def test_smaller_images_are_enlarged_bilinearly() -> None:
    assert network_size("resnetap-10", 8) == 16
    assert network_size("resnetap-10", 40) == 40
    assert network_size("convnet-6", 32) == 64
    x = torch.rand(2, 3, 8, 8)
    network = build_network("resnet-18", 5, size=8)
    assert network(x).shape == (2, 5)
    enlarged = torch.nn.functional.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(network[0](x), enlarged)  # type: ignore[operator]


def test_initial_weights_follow_the_global_seed() -> None:
    torch.manual_seed(5)
    first = build_network("convnet-3", 10, size=32).state_dict()
    torch.manual_seed(5)
    second = build_network("convnet-3", 10, size=32).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("convnet", "needs a depth; use convnet-2w64 or convnet-3 or convnet-4 or convnet-6"),
        ("resnet", "use resnet-18"),
        ("convnet-5", "did you mean"),
        ("resnetap10", "'resnetap-10'"),
        ("", "unknown network ''"),
    ],
)
def test_a_name_that_is_not_there_gets_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_network(name, 10, size=32)
