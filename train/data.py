"""Where pairs come from: sharp photographs, blurred on the fly.

Photographs stay in the memory of the training device as uint8; blurring is
much dearer than cropping, so a pool keeps blurred regions for several crops.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.blur import BlurRecipe, degrade

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted by name."""
    if not folder.is_dir():
        raise DeblurError(
            folder, expected="a folder of pictures", found="none", remedy="check the path"
        )
    pictures = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file()
    )
    if not pictures:
        raise DeblurError(
            folder,
            expected=f"pictures ({', '.join(PICTURE_SUFFIXES)})",
            found="none",
            remedy="name a folder that holds sharp photographs",
        )
    return pictures


def read_picture(path: Path) -> Tensor:
    """A picture as uint8 ``[3, H, W]``, RGB; grey, alpha and 16 bits are converted."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DeblurError(
            path,
            expected="a picture",
            found="a file that does not decode",
            remedy="remove it from the folder",
        )
    return torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1).contiguous()


def read_photos(folder: Path, smallest: int) -> list[Tensor]:
    """The photographs of a folder, each at least ``smallest`` pixels a side."""
    photos = []
    for path in list_pictures(folder):
        photo = read_picture(path)
        height, width = photo.shape[-2:]
        if min(height, width) < smallest:
            raise DeblurError(
                path,
                expected=f"at least {smallest}x{smallest} pixels",
                found=f"{width}x{height}",
                remedy="remove it from the folder, or make --crop smaller",
            )
        photos.append(shrink(photo))
    return photos


def shrink(photo: Tensor, largest: int = 2048) -> Tensor:
    """At most ``largest`` pixels a side: beyond it lenses show, not edges."""
    scale = largest / max(photo.shape[-2:])
    if scale >= 1:
        return photo
    scaled = F.interpolate(photo[None].float(), scale_factor=scale, mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255).to(torch.uint8)


class PairPool:
    """Blurred and sharp regions, from which batches of crops are drawn.

    Every region serves ``reuse`` crops on average before a new one takes its
    place. ``capacity`` regions of ``region`` pixels a side, no larger than the
    smallest photograph, are kept; the pool grows to that number while training
    runs, so that the first step comes soon.
    """

    def __init__(
        self,
        photos: list[Tensor],
        recipe: BlurRecipe,
        *,
        seed: int,
        device: torch.device,
        capacity: int = 256,
        region: int = 384,
        reuse: int = 32,
    ) -> None:
        self.photos = [photo.to(device) for photo in photos]
        self.recipe, self.device = recipe, device
        self.capacity, self.region, self.reuse = capacity, region, reuse
        self.random = torch.Generator().manual_seed(seed)
        self.pairs: list[Tensor] = []
        self.oldest = 0
        self.credit = 8.0  # regions to make before the first batch

    def batch(self, count: int, crop: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp crops, float ``[count, 3, crop, crop]`` in [-1, 1]."""
        self.credit += count / self.reuse
        while self.credit >= 1:
            self.credit -= 1
            self._renew()
        crops = torch.stack([self._crop(crop) for _ in range(count)])
        blurred, sharp = (crops.float() / 127.5 - 1).unbind(1)
        return blurred, sharp

    def _renew(self) -> None:
        sharp = self._region()[None].float() / 255
        pair = torch.cat(degrade(sharp, self.recipe, self.random))
        pair = (pair * 255).round().to(torch.uint8)
        if len(self.pairs) < self.capacity:
            self.pairs.append(pair)
        else:
            self.pairs[self.oldest] = pair
            self.oldest = (self.oldest + 1) % self.capacity

    def _region(self) -> Tensor:
        """A random place of a random photograph, at a random scale down to a half."""
        photo = self.photos[self._integer(len(self.photos))]
        largest = min(2 * self.region, *photo.shape[-2:])
        side = self.region + self._integer(largest - self.region + 1)
        top, left = (self._integer(length - side + 1) for length in photo.shape[-2:])
        region = photo[:, top : top + side, left : left + side]
        if side == self.region:
            return region
        scaled = F.interpolate(
            region[None].float(), size=(self.region, self.region), mode="bilinear", antialias=True
        )
        return scaled[0].round().clamp(0, 255).to(torch.uint8)

    def _crop(self, crop: int) -> Tensor:
        """``[2, 3, crop, crop]`` uint8, one of the square's eight orientations."""
        pair = self.pairs[self._integer(len(self.pairs))]
        top, left = (self._integer(self.region - crop + 1) for _ in range(2))
        pair = pair[..., top : top + crop, left : left + crop]
        if self._integer(2):
            pair = pair.flip(-1)
        return pair.rot90(self._integer(4), (-2, -1))

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (), generator=self.random))
