"""Networks: the published parameter counts, stems by size, and no size at which one cannot learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dap.errors import ConfigError
from dap.evaluation import build_network, count_parameters, network_size
from dap.evaluation.networks import BORROWED, NETWORKS, architecture, has_batch_norm, network_name
from dap.evaluation.networks.own import OWN

SMALLEST = {"resnet-101": 64, "mobilenet-v2": 64, "efficientnet-b0": 64, "swin-t": 56, "swin-v2-t": 64}


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
    for name in OWN:
        norms = [m for m in build_network(name, 3, size=64).modules() if isinstance(m, nn.GroupNorm)]
        assert norms
        assert all(m.num_groups == m.num_channels and m.affine for m in norms)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_network_learns_from_its_smallest_images(name: str) -> None:
    torch.manual_seed(0)
    size = architecture(name).smallest
    network = build_network(name, 4, size=size)
    out = network(torch.randn(2, 3, size, size))
    out[:, 0].square().sum().backward()
    assert out.shape == (2, 4)
    assert not torch.allclose(out[0], out[1])
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight.grad
    assert first is not None
    assert first.abs().max() > 0


@pytest.mark.parametrize("name", ["convnet-3", "convnet-4", "resnetap-10", "resnet-18"])
def test_below_the_smallest_size_a_network_would_see_nothing(name: str) -> None:
    """Why images are enlarged: at half that side the last norm has 1x1 maps, and says zero of every image."""
    size = OWN[name].smallest // 2
    network = OWN[name].build(4, 3, 64)
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
        ("resnet", "needs a depth; use resnet-18 or resnet-101"),
        ("swin", "use swin-t or swin-v2-t"),
        ("convnet-5", "did you mean"),
        ("resnet-50", "did you mean"),
        ("resnetap-11", "'resnetap-10'"),
        ("", "unknown network ''"),
        ("torchvision:resnet_18", "unknown torchvision network 'resnet_18'; did you mean 'resnet18'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown torchvision network"),
        ("timm:resnet_18", "unknown timm network 'resnet_18'; did you mean .*'resnet18'"),
        ("timm:hf-hub:somebody/model", "unknown timm network"),
        ("timm:resnet18.no_such_weights", "leave out what follows the dot"),
    ],
)
def test_a_name_that_is_not_there_gets_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_network(name, 10, size=32)


@pytest.mark.parametrize(
    ("name", "ten", "thousand"),
    [
        ("resnet-101", 42_520_650, 44_549_160),
        ("mobilenet-v2", 2_236_682, 3_504_872),
        ("efficientnet-b0", 4_020_358, 5_288_548),
        ("swin-t", 27_527_044, 28_288_354),
        ("swin-v2-t", 27_590_260, 28_351_570),
    ],
)
def test_the_five_for_other_architectures_are_the_published_ones(name: str, ten: int, thousand: int) -> None:
    assert count_parameters(build_network(name, 10, size=224)) == ten
    assert count_parameters(build_network(name, 1000, size=224)) == thousand
    assert has_batch_norm(build_network(name, 10, size=224)) == (not name.startswith("swin"))


@pytest.mark.parametrize("name", BORROWED)
def test_small_images_come_to_a_side_that_each_can_learn_from(name: str) -> None:
    smallest = SMALLEST[name]
    assert {network_size(name, size) for size in (8, 32, smallest)} == {smallest}
    assert network_size(name, 224) == 224
    grows = {"swin-t": 112, "swin-v2-t": 128}.get(name, 100)  # whole windows of patches
    assert network_size(name, 100) == grows


def test_the_last_stage_sees_more_than_one_position() -> None:
    """Why 64 px: at 32 px the maps that reach the last convolutions are 1x1, and 3x3 kernels see only padding."""
    sides: list[int] = []
    network = build_network("resnet-101", 4, size=64).eval()
    network.layer4.register_forward_hook(lambda *passed: sides.append(passed[2].shape[-1]))  # type: ignore[union-attr, operator]
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
        network(torch.zeros(1, 3, 32, 32))
    assert sides == [2, 1]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("torchvision:resnet18", {8: 64, 100: 100}),
        ("torchvision:vit_b_32", {8: 128, 130: 160}),
        ("torchvision:squeezenet1_1", {8: 64}),
        ("timm:resnet10t", {8: 64, 100: 100}),
        ("timm:resnet18.a1_in1k", {8: 64}),
        ("timm:vit_tiny_patch16_224", {8: 224, 256: 224}),
    ],
)
def test_any_network_of_torchvision_and_timm_by_name(name: str, sides: dict[int, int]) -> None:
    for size, side in sides.items():
        assert network_size(name, size) == side
    size = max(sides)
    network = build_network(name, 5, size=size)
    assert network.training
    assert network(torch.rand(2, 3, size, size)).shape == (2, 5)
    assert network_name(name) == name


def test_a_dash_or_capitals_do_not_make_another_network() -> None:
    assert network_name("resnet18") == network_name("ResNet-18") == "resnet-18"
    assert network_name("convnet2w64") == "convnet-2w64"
    assert not has_batch_norm(build_network("resnet18", 5, size=32))
    assert has_batch_norm(build_network("torchvision:resnet18", 5, size=32))


def test_a_network_that_cannot_take_such_images_or_gives_no_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    with pytest.raises(ConfigError, match=r"'torchvision:resnet18' cannot be built for 5 classes.*takes 3 channels"):
        build_network("torchvision:resnet18", 5, channels=1, size=64)
    monkeypatch.setattr(torchvision.models, "get_model", lambda *a, **k: nn.Flatten())
    with pytest.raises(ConfigError, match=r"gives \[1, 12288\] where logits \[1, 5\] are needed"):
        build_network("torchvision:resnet18", 5, size=64)


@pytest.mark.parametrize("name", ["mobilenet-v2", "timm:resnet10t"])
def test_borrowed_weights_follow_the_global_seed_and_are_not_downloaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(name, 10, size=64).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
