"""How images are varied before a network that learns sees them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

GREY = 0.2  # how likely an image is to lose its colour


def random_crop_flip(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Shift every image by up to ``padding`` pixels (zeros move in) and mirror half of them: the usual augmentation.

    A gather, so that gradients flow back to the pixels that were seen.

    Args:
        images: (B, C, H, W).
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
        padding: largest shift in pixels.
    """
    count, channels, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = offsets[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = offsets[1] + torch.where(mirrored, width - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4).flatten(2)
    places = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).to(images.device).flatten(1)
    # Not by four indices, which takes four times as long, and its gradient too.
    return padded.gather(2, places[:, None].expand(-1, channels, -1)).view(count, channels, height, width)


def strong_augmentation(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random resized crop, flip and colour jitter for every image: what networks from the Hub were trained with.

    Crops have 35 to 100 % of the area and sides of 3:4 to 4:3; brightness, contrast and saturation are multiplied by
    0.6 to 1.4.

    Args:
        images: (B, C, H, W) in [0, 1].
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
    """
    count = len(images)
    drawn = torch.rand(8, count, generator=generator)
    area, aspect = 0.35 + 0.65 * drawn[0], (4 / 3) ** (2 * drawn[1] - 1)
    height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    crops = torch.zeros(count, 2, 3)
    crops[:, 0, 0], crops[:, 1, 1] = torch.where(drawn[2] < 0.5, -width, width), height
    crops[:, 0, 2], crops[:, 1, 2] = (2 * drawn[3] - 1) * (1 - width), (2 * drawn[4] - 1) * (1 - height)
    grid = F.affine_grid(crops, list(images.shape), align_corners=False).to(images.device)
    images = F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
    return _jittered(images, 0.6 + 0.8 * drawn[5:])


def grey_or_jitter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A share of the images without colour, on average, and the others with the colour jitter of strong augmentation.

    Args:
        images: (B, C, H, W) in [0, 1].
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
    """
    drawn = torch.rand(4, len(images), generator=generator)
    factors = 0.6 + 0.8 * drawn[1:]
    factors[2] = torch.where(drawn[0] < GREY, 0, factors[2])
    return _jittered(images, factors)


def _jittered(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply the brightness, the contrast and the saturation of each image by its column of ``factors`` (3, B)."""
    brightness, contrast, saturation = factors.view(3, len(images), 1, 1, 1).to(images.device)
    images = brightness * images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = contrast * (images - mean) + mean
    grey = images.mean(dim=1, keepdim=True)
    return (saturation * (images - grey) + grey).clamp(0, 1)
