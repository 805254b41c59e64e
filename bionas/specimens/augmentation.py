"""Augmentations of training images, one registry: what an epoch draws for its images, and how it is applied.

An augmentation is a function `(n, size, generator) -> drawn`: a named tuple of (n,) tensors, one entry an image in the
order of the epoch, with a method `applied(pixels)` for the images of a batch; None leaves images as they are. All that is
random comes from `generator`, so that an epoch depends on (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor

from bionas.registry import Registry

AUGMENTATIONS: Registry[Callable[[int, int, torch.Generator], Any]] = Registry("augmentation")


class Movement(NamedTuple):
    """Flip (bool) and shift (pixels) of n images along rows and columns, each (n,)."""

    flip_rows: Tensor
    shift_rows: Tensor
    flip_columns: Tensor
    shift_columns: Tensor

    def applied(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) flipped and shifted; where a shift uncovers pixels the edge is repeated. Layout is kept."""
        size, device = pixels.shape[-1], pixels.device

        def source(flip: Tensor, shift: Tensor) -> Tensor:
            place = (torch.arange(size) + shift[:, None]).clamp_(0, size - 1)
            return torch.where(flip[:, None], size - 1 - place, place).to(device)

        rows = source(self.flip_rows, self.shift_rows)[:, :, None]
        columns = source(self.flip_columns, self.shift_columns)[:, None, :]
        images = torch.arange(len(pixels), device=device)[:, None, None]
        return pixels.permute(0, 2, 3, 1)[images, rows, columns].permute(0, 3, 1, 2)


@AUGMENTATIONS.register("none")
def _in_place(n: int, size: int, generator: torch.Generator) -> None:
    """The paper's choice: images as they are."""


@AUGMENTATIONS.register("flips_and_shifts")
def _flips_and_shifts(n: int, size: int, generator: torch.Generator) -> Movement:
    """Mirrored left-right with probability 1/2, shifted by up to 1/8 of the side; an independent draw an image."""
    return _any_flips_and_shifts(n, size, generator)._replace(flip_rows=torch.zeros(n, dtype=torch.bool))


@AUGMENTATIONS.register("any_flips_and_shifts")
def _any_flips_and_shifts(n: int, size: int, generator: torch.Generator) -> Movement:
    """The same, upside down too: a specimen in a well has no up, a photograph in the field has."""

    def flips() -> Tensor:
        return torch.rand(n, generator=generator) < 0.5

    def shifts() -> Tensor:
        return torch.randint(-(size // 8), size // 8 + 1, (n,), generator=generator)

    return Movement(flips(), shifts(), flips(), shifts())


class FlipsCropsLightZoom(NamedTuple):
    """Flips (bool), zoom (factor >= 1), place of the crop (0..1), brightness and contrast (factors) of n images, each (n,)."""

    flip_rows: Tensor
    flip_columns: Tensor
    zoom: Tensor
    top: Tensor
    left: Tensor
    brightness: Tensor
    contrast: Tensor

    def applied(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) uint8 -> the same: padded by reflection, cropped and zoomed, flipped, lit.

        As torchvision's `resized_crop`, flips, `adjust_brightness` and `adjust_contrast` one image at a time, but for
        all images at once: crops of one side share a resize.
        """
        cropped = self._cropped(pixels)

        def of_images(part: Tensor) -> Tensor:
            return part.to(pixels.device)[:, None, None, None]

        flipped = torch.where(of_images(self.flip_rows), cropped.flip(2), cropped)
        flipped = torch.where(of_images(self.flip_columns), flipped.flip(3), flipped)
        lit = (flipped * of_images(self.brightness)).clamp_(0, 255).to(torch.uint8)
        return self._contrasted(lit, of_images)

    def _cropped(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) uint8: the crop of each image, enlarged to S."""
        n, _, size, _ = pixels.shape
        room = size // 8
        padded = transforms.pad(pixels, [room] * 4, padding_mode="reflect").permute(0, 2, 3, 1)
        # Python's numbers, as torchvision would be given: the side of a crop decides how it is resized.
        sides = torch.tensor([round(size / zoom) for zoom in self.zoom.tolist()])
        free = (size + 2 * room - sides).tolist()
        tops, lefts = (
            torch.tensor([round(part * rest) for part, rest in zip(parts.tolist(), free, strict=True)])
            for parts in (self.top, self.left)
        )
        cropped = torch.empty((n, size, size, 3), dtype=torch.uint8, device=pixels.device)
        for side in sides.unique().tolist():
            here = torch.nonzero(sides == side)[:, 0]
            rows, columns = (
                (start[here, None] + torch.arange(side)).to(pixels.device) for start in (tops, lefts)
            )
            here = here.to(pixels.device)
            crops = padded[here[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            resized = transforms.resize(crops, [size, size], antialias=True)
            cropped[here] = resized.permute(0, 2, 3, 1)
        return cropped.permute(0, 3, 1, 2)

    def _contrasted(self, images: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
        """Each image blended with its mean grey: contrast * image + (1 - contrast) * grey."""
        grey = transforms.rgb_to_grayscale(images.to(torch.float32)).floor_()
        mean = grey.mean(dim=(1, 2, 3), keepdim=True)
        contrast = of_images(self.contrast)
        rest = of_images((1.0 - self.contrast.double()).float())
        return (
            (images * contrast)
            .addcmul_(rest.expand_as(images), mean.expand_as(images))
            .clamp_(0, 255)
            .to(torch.uint8)
        )


@AUGMENTATIONS.register("flips_crops_light_zoom")
def _flips_crops_light_zoom(n: int, size: int, generator: torch.Generator) -> FlipsCropsLightZoom:
    """SERAN's recipe (its section 4.1): random crop or pad, horizontal and vertical flips, lighting, zoom.

    The text names no strength. These are fast.ai 1's, which it used: zoom up to 1.1, brightness and contrast within a
    fifth, each on three images of four; flips on every second; a crop anywhere in an image padded by 1/8 a side.
    """

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    def three_of_four(factor: Tensor) -> Tensor:
        return torch.where(uniform() < 0.75, factor, torch.ones(n))

    return FlipsCropsLightZoom(
        flip_rows=uniform() < 0.5,
        flip_columns=uniform() < 0.5,
        zoom=three_of_four(1 + 0.1 * uniform()),
        top=uniform(),
        left=uniform(),
        brightness=three_of_four(0.8 + 0.4 * uniform()),
        contrast=three_of_four(0.8 + 0.4 * uniform()),
    )
