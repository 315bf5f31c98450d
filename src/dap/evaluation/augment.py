"""Augmentation of whole batches in memory: every image its own random parameters, drawn from one generator.

Images are float32 [B, 3, s, s] in [0, 1] on any device, square. Random numbers come from the generator passed
in (a CPU generator, so that a seed means the same on every device). Distributions are those of torchvision's
`RandomResizedCrop`, `RandomHorizontalFlip` and `ColorJitter` on float images; CutMix is Yun et al. 2019.
What soft labels are stored with (crop, flip, CutMix) is drawn and applied by functions of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dap.evaluation.protocols import Protocol

_TRIES = 10  # torchvision's: an image whose ten boxes all stick out keeps its whole area
_LOG_RATIO = math.log(4 / 3)
_LUMA = (0.2989, 0.587, 0.114)
# principal components of ImageNet's colours (Krizhevsky et al. 2012): eigenvalues, eigenvectors in columns
_PCA_VALUES = (0.2175, 0.0188, 0.0045)
_PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
# every order of the three colour operations: 0 brightness, 1 contrast, 2 saturation
_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclass(frozen=True)
class Mixed:
    """A batch after CutMix.

    partner  int64 [B]: whose pixels fill the box of each image
    ratio    the share of its own pixels that each image kept, 0 to 1
    """

    images: Tensor
    partner: Tensor
    ratio: float


def augment(images: Tensor, protocol: Protocol, generator: Generator) -> Tensor:
    """A training batch as `protocol` wants it, before CutMix: uint8 [B, 3, s, s] -> normalised float32."""
    out = images.float().div_(255)
    if protocol.shuffle:
        out = shuffle_patches(out, protocol.shuffle, generator)
    if protocol.crop is not None:
        out = resized_crop(out, crop_boxes(len(out), out.shape[-1], protocol.crop, generator))
    if protocol.flip:
        out = flip(out, generator)
    if protocol.jitter:
        out = color_jitter(out, protocol.jitter, generator)
    if protocol.lighting:
        out = lighting(out, protocol.lighting, generator)
    if protocol.shift:
        out = shift(out, protocol.shift, generator)
    return normalise(out, protocol)


def normalise(images: Tensor, protocol: Protocol) -> Tensor:
    """Float [B, 3, s, s] in [0, 1] -> minus the protocol's mean, over its standard deviation."""
    mean, sd = (images.new_tensor(values).view(1, -1, 1, 1) for values in protocol.normalise)
    return (images - mean).div_(sd)


def shuffle_patches(images: Tensor, parts: int, generator: Generator) -> Tensor:
    """Each image cut into `parts` columns put in a random order, then likewise into rows; the last takes the rest."""
    count, channels, size, _ = images.shape
    strip = torch.arange(size).div(max(1, size // parts), rounding_mode="floor").clamp_(max=parts - 1)
    for axis in (3, 2):
        rank = torch.rand(count, parts, generator=generator).argsort(1)
        taken = (rank[:, strip] * size + torch.arange(size)).argsort(1).to(images.device)
        taken = taken[:, None, None, :] if axis == 3 else taken[:, None, :, None]
        images = images.gather(axis, taken.expand(count, channels, size, size))
    return images


def crop_boxes(count: int, size: int, area: tuple[float, float], generator: Generator) -> Tensor:
    """Boxes of a random resized crop in a square of side `size`: int64 [count, 4], top, left, height, width.

    Area uniform in `area` (shares of the image), logarithm of the aspect ratio uniform between 3/4 and 4/3,
    sides rounded; of ten tries the first that fits, else the whole image; the place uniform. That is
    torchvision's rule.
    """
    draws = torch.rand(_TRIES, 2, count, generator=generator)
    root = torch.sqrt(size * size * torch.lerp(torch.tensor(area[0]), torch.tensor(area[1]), draws[:, 0]))
    aspect = torch.exp((2 * draws[:, 1] - 1) * _LOG_RATIO / 2)  # root of the ratio
    width, height = (root * aspect).round(), (root / aspect).round()
    fits = (width >= 1) & (width <= size) & (height >= 1) & (height <= size)
    first = fits.int().argmax(0, keepdim=True)
    any_fits = fits.any(0)
    width = torch.where(any_fits, width.gather(0, first)[0], size)
    height = torch.where(any_fits, height.gather(0, first)[0], size)
    place = torch.rand(2, count, generator=generator)
    top = (place[0] * (size - height + 1)).floor().clamp_(max=size - height)
    left = (place[1] * (size - width + 1)).floor().clamp_(max=size - width)
    return torch.stack([top, left, height, width], dim=1).long()


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Each image's box [B, 4], enlarged to the image's own size by bilinear interpolation.

    A crop never grows the source, so torchvision's antialias has nothing to do here, and sampling with
    coordinates clamped to the box gives the same pixels as cropping and resizing (a test compares them).
    """
    size = images.shape[-1]
    box = boxes.to(images.device, torch.float32)
    ramp = torch.arange(size, device=images.device) + 0.5
    grid = images.new_empty(len(images), size, size, 2)
    for axis, (start, side) in enumerate(((box[:, 1], box[:, 3]), (box[:, 0], box[:, 2]))):
        where = torch.minimum((ramp * side[:, None] / size - 0.5).clamp_(min=0), side[:, None] - 1) + start[:, None]
        where = (2 * where + 1) / size - 1  # grid_sample's coordinates: the image's outer edges are -1 and 1
        grid[..., axis] = where[:, :, None] if axis else where[:, None, :]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Each image mirrored left to right with probability .5."""
    return mirror(images, flips(len(images), generator))


def flips(count: int, generator: Generator) -> Tensor:
    """Which of `count` images to mirror: bool [count], each with probability .5."""
    return torch.rand(count, generator=generator) < 0.5


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """The images, those where `mirrored` is true turned left to right."""
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def color_jitter(images: Tensor, amount: float, generator: Generator) -> Tensor:
    """Brightness, contrast and saturation by factors uniform in 1 +- `amount`, per image in a random order.

    Each is a blend with black, with the image's mean grey, or with its grey image, kept in [0, 1].
    """
    count, device = len(images), images.device
    factors = 1 + amount * (2 * torch.rand(count, 3, generator=generator) - 1)
    orders = torch.tensor(_ORDERS)[torch.randint(len(_ORDERS), (count,), generator=generator)]
    factors = factors.gather(1, orders).to(device)
    orders = orders.to(device)
    luma = images.new_tensor([_LUMA])
    out = images.flatten(2).clone()
    for place in range(3):
        operation, factor = (values[:, place].view(-1, 1, 1) for values in (orders, factors))
        grey = luma @ out
        towards = (operation == 2) * grey + (operation == 1) * grey.mean(2, keepdim=True)
        torch.lerp(towards, out, factor, out=out).clamp_(0, 1)
    return out.view_as(images)


def lighting(images: Tensor, sd: float, generator: Generator) -> Tensor:
    """AlexNet's lighting: a normal step of deviation `sd` along each principal component of the colours."""
    alpha = sd * torch.randn(len(images), 3, generator=generator)
    colour = (alpha * torch.tensor(_PCA_VALUES)) @ torch.tensor(_PCA_VECTORS).T
    return images + colour.to(images.device)[:, :, None, None]


def shift(images: Tensor, most: int, generator: Generator) -> Tensor:
    """The whole batch moved by -most .. most pixels along each axis, all alike likely; borders repeat."""
    size = images.shape[-1]
    down, across = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    padded = F.pad(images, (most,) * 4, mode="replicate")
    return padded[:, :, most + down : most + down + size, most + across : most + across + size]


def cutmix(images: Tensor, generator: Generator) -> Mixed:
    """One box for the whole batch, filled from a random partner each."""
    box = cutmix_box(images.shape[-1], generator)
    return mix(images, torch.randperm(len(images), generator=generator), box)


def cutmix_box(size: int, generator: Generator) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the part of CutMix's box that lies inside.

    It wants a share 1 - lambda of the area, lambda from Beta(1, 1), which is uniform; its centre lies anywhere.
    """
    side = int(size * math.sqrt(1 - float(torch.rand((), generator=generator))))
    centre = torch.randint(size, (2,), generator=generator).tolist()
    top, left = (max(0, at - side // 2) for at in centre)
    bottom, right = (min(size, at + side // 2) for at in centre)
    return top, bottom, left, right


def mix(images: Tensor, partner: Tensor, box: tuple[int, int, int, int]) -> Mixed:
    """Each image with the box filled from its `partner`; the ratio is that of the box, whatever lambda was."""
    (top, bottom, left, right), size = box, images.shape[-1]
    partner = partner.to(images.device)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / size**2)
