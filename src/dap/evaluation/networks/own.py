"""The networks that hard-label distillation is judged with.

"Instance norm" in this literature is GroupNorm with one channel a group and an affine map. Such a norm of a
1x1 map is zero, and with it the network: every name has a smallest side, and smaller images are enlarged
(bilinear) inside the network, so that augmentation still happens at the images' own size. All networks see 3
channels; grey images are repeated by whoever holds them, so that the parameter counts are the published ones.

ConvNet: Gidaris and Komodakis 2018, as in Zhao et al. 2021. ResNetAP-10: Kim et al. 2022 (IDC), a ResNet
whose strides are average pools. ResNet-18: He et al. 2016.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn

from dap.evaluation.networks.architecture import Architecture


def _instance_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels, channels)


def _convnet(depth: int, width: int, classes: int, channels: int, size: int) -> nn.Module:
    layers: list[nn.Module] = []
    for block in range(depth):
        layers += [nn.Conv2d(width if block else channels, width, 3, padding=1), _instance_norm(width)]
        layers += [nn.ReLU(inplace=True), nn.AvgPool2d(2)]
    features = width * (size >> depth) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `stride` 2 halves the map, by strides or by average pools."""

    def __init__(self, inputs: int, width: int, stride: int, pooled: bool) -> None:
        super().__init__()
        step = 1 if pooled else stride
        pool = [nn.AvgPool2d(stride)] if pooled and stride > 1 else []
        self.first = nn.Sequential(
            nn.Conv2d(inputs, width, 3, step, 1, bias=False),
            _instance_norm(width),
            nn.ReLU(inplace=True),
            *pool,
        )
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), _instance_norm(width))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, step, bias=False), *pool, _instance_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return out.relu_()


class _GlobalMean(nn.Module):
    """[B, C, H, W] -> [B, C]; unlike adaptive pooling its gradient is deterministic on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def _resnet(blocks: int, pooled: bool, classes: int, channels: int, size: int) -> nn.Module:
    layers: list[nn.Module] = _pooled_stem(channels, size) if pooled else _strided_stem(channels, size)
    inputs = 64
    for stage in range(4):
        for block in range(blocks):
            layers.append(_Block(inputs, 64 << stage, 2 if stage and not block else 1, pooled))
            inputs = 64 << stage
    network = nn.Sequential(*layers, _GlobalMean(), nn.Linear(inputs, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels)))
    return network


def _stem(channels: int, kernel: int, stride: int, *pool: nn.Module) -> list[nn.Module]:
    conv = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
    return [conv, _instance_norm(64), nn.ReLU(inplace=True), *pool]


def _pooled_stem(channels: int, size: int) -> list[nn.Module]:
    if size > 128:
        return _stem(channels, 7, 1, nn.AvgPool2d(4))
    return _stem(channels, 3, 1, *([nn.AvgPool2d(2)] if size > 64 else []))


def _strided_stem(channels: int, size: int) -> list[nn.Module]:
    return _stem(channels, 7, 2, nn.MaxPool2d(3, 2, 1)) if size > 64 else _stem(channels, 3, 1)


OWN: dict[str, Architecture] = {
    "convnet-2w64": Architecture(partial(_convnet, 2, 64), 4),
    "convnet-3": Architecture(partial(_convnet, 3, 128), 8),
    "convnet-4": Architecture(partial(_convnet, 4, 128), 16),
    "convnet-6": Architecture(partial(_convnet, 6, 128), 64),
    "resnetap-10": Architecture(partial(_resnet, 1, True), 16),
    "resnet-18": Architecture(partial(_resnet, 2, False), 16),
}
