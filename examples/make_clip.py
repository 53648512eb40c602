"""Make ``shaky.mp4``: a walk past Berlin Cathedral, filmed with an unsteady hand.

Every frame is an exposure: the photograph as seen from 24 moments while the
shutter was open, summed in linear light. A step every 0.7 s jolts the camera,
and is heard: sound and picture that drift apart can be noticed.

The photograph is by Gary Todd, CC0-1.0, from Debian 12's ``gcompris-qt-data``
(3.1-2), whose resource file holds it with its licence. To make the clip again::

    apt-get download gcompris-qt-data
    dpkg-deb -x gcompris-qt-data_*.deb gcompris
    python make_clip.py gcompris/usr/share/gcompris-qt/rcc/explore_monuments.rcc shaky.mp4
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from torch import Tensor
from torch.nn import functional as F

from deblurgan.train.blur import add_noise, from_light, homography_grid, to_light

PHOTO_SHA256 = "b552994f64727ceaa04218d6a5e7a86b08cb8b550c1eeae0b010f857286d308e"
SEED = 7
WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 25, 3
SOUND_RATE = 48000
PHOTO_WIDTH = 760  # shrunk to this: sharp at the clip's size, with room to shake
SHUTTER = 0.75  # of the time between two frames
MOMENTS = 24  # an exposure: more than one for each pixel of the longest blur
NOISE = 1.2 / 255
GAMMA = 2.2
STEPS = (0.15, 0.85, 1.55, 2.25)  # seconds


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python make_clip.py RESOURCES.rcc CLIP.mp4")
    resources, clip = map(Path, sys.argv[1:])
    write_clip(clip, exposures(read_photo(resources)), footsteps())
    print(f"{clip}: {WIDTH}x{HEIGHT}, {RATE} fps, {SECONDS} s, {clip.stat().st_size / 1e6:.2f} MB")


def read_photo(resources: Path) -> Tensor:
    """The photograph in linear light, ``[1, 3, H, W]``. In a Qt resource file
    pictures lie uncompressed one after another; a hash tells which one it is.
    """
    content = resources.read_bytes()
    start = content.find(b"RIFF")
    while start >= 0:
        end = start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        if hashlib.sha256(content[start:end]).hexdigest() == PHOTO_SHA256:
            break
        start = content.find(b"RIFF", start + 4)
    else:
        raise SystemExit(
            f"{resources}: expected berlinCathedral.webp of GCompris 3.1 in it, found no such "
            "picture; get the package that the head of this script names"
        )
    coded = cv2.imdecode(np.frombuffer(content[start:end], np.uint8), cv2.IMREAD_COLOR)
    picture = torch.from_numpy(coded[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255
    size = (round(PHOTO_WIDTH * picture.shape[2] / picture.shape[3]), PHOTO_WIDTH)
    return F.interpolate(to_light(picture, GAMMA), size, mode="bicubic", antialias=True)


def exposures(photo: Tensor) -> Iterator[np.ndarray]:
    """Frames as the camera records them, uint8 ``[HEIGHT, WIDTH, 3]``, RGB."""
    random = torch.Generator().manual_seed(SEED)
    # homography_grid() measures in half frames, grid_sample() in half photographs.
    to_photo = torch.tensor([WIDTH / photo.shape[3], HEIGHT / photo.shape[2]])
    for frame in range(RATE * SECONDS):
        open_for = (torch.arange(MOMENTS) + 0.5) / MOMENTS * SHUTTER
        views = camera((frame + open_for) / RATE)
        grids = torch.cat([homography_grid(view, HEIGHT, WIDTH) for view in views]) * to_photo
        if float(grids.abs().max()) > 1:
            raise SystemExit(f"frame {frame}: the camera looks past the photograph's edge")
        seen = F.grid_sample(
            photo.expand(MOMENTS, -1, -1, -1), grids, mode="bicubic", align_corners=False
        )
        picture = from_light(seen.mean(0), GAMMA)
        picture = add_noise(picture, NOISE, random).clamp(0, 1)
        yield (picture * 255).round().byte().permute(1, 2, 0).numpy()


def camera(time: Tensor) -> Tensor:
    """Where the camera looks at each time (seconds): homographies ``[N, 3, 3]``
    from pixels of the frame to pixels of the photograph, both centred.

    A pan up and to the right, a slow sway, and a tremor of 3 to 8 Hz that each
    step sets off and that dies away before the next.
    """
    random = torch.Generator().manual_seed(SEED)

    def waves(lowest: float, highest: float) -> Tensor:
        """Three sines for each of shift x, y, turn and zoom: ``[N, 4]``."""
        hertz = lowest + (highest - lowest) * torch.rand(3, 4, generator=random)
        phase = 2 * math.pi * torch.rand(3, 4, generator=random)
        return torch.sin(2 * math.pi * hertz * time[:, None, None] + phase).sum(1) / 3

    done = time / SECONDS
    pan = torch.stack([70 * done - 35, 58 - 72 * done, 0 * done, 0.02 * done], 1)
    sway = waves(0.3, 0.8) * torch.tensor([8.0, 6.0, 0.006, 0.004])
    since_step = (time[:, None] - torch.tensor(STEPS)).clamp(min=0) / 0.12
    shaken = 0.12 + (since_step * torch.exp(1 - since_step)).sum(1, keepdim=True)
    tremor = shaken * waves(3.0, 8.0) * torch.tensor([14.0, 14.0, 0.012, 0.006])
    shift_x, shift_y, turn, zoom = (pan + sway + tremor).unbind(1)

    cos, sin = (1 - zoom) * torch.cos(turn), (1 - zoom) * torch.sin(turn)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = (cos, -sin, shift_x, sin, cos, shift_y, zero, zero, one)
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def footsteps() -> np.ndarray:
    """A soft knock at each step, float32 ``[1, samples]``, at ``SOUND_RATE``."""
    time = np.arange(SOUND_RATE * SECONDS) / SOUND_RATE
    sound = np.zeros_like(time)
    for step in STEPS:
        since = np.maximum(time - step, 0)
        sound += np.sin(2 * np.pi * 180 * since) * np.exp(-since / 0.03)
        sound += 0.3 * np.sin(2 * np.pi * 900 * since) * np.exp(-since / 0.008)
    return (0.4 * sound).astype(np.float32)[None]


def write_clip(path: Path, frames: Iterator[np.ndarray], sound: np.ndarray) -> None:
    """H.264 (BT.709, limited range) and AAC; ``path`` appears when it is whole."""
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        options = {"crf": "19", "preset": "slow"}
        video = container.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        video.codec_context.colorspace = Colorspace.ITU709
        video.codec_context.color_range = ColorRange.MPEG
        video.codec_context.color_primaries = ColorPrimaries.BT709
        video.codec_context.color_trc = ColorTrc.BT709
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        audio.bit_rate = 96000
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(frame))
        samples = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SOUND_RATE, 0
        samples.time_base = Fraction(1, SOUND_RATE)
        container.mux(audio.encode(samples))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    os.replace(part, path)


if __name__ == "__main__":
    main()
