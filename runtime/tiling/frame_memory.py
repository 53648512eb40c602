"""How much memory a video's frames take on their way, apart from the engine.

Codecs keep frames by the dozen. Up to 1080p that is nothing; at 8K an encoder that looks
40 frames ahead takes 5 GB, and a decoder with a thread a processor as much again. Figures are
measured with libx264 (preset medium) and FFmpeg's H.264 decoder at 4K and 8K.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FULL_HD = 1920 * 1080
# Bytes a pixel of a frame: YUV with its half-size copies and motion vectors; RGB uint8;
# YUV 4:2:0 uint8.
ENCODER, LOOKAHEAD = 43, 3.1
DECODER, DECODER_THREAD = 10, 3
RGB, YUV = 3, 1.5
CODED = 3  # frames that become one on their way to the encoder
FRAMES_AHEAD = 40  # libx264's own choice


@dataclass(frozen=True)
class CodecLimits:
    """How far an encoder may look ahead, in frames, and a decoder's threads, each of which
    works on a frame of its own.
    """

    lookahead: int
    decoder_threads: int


def codec_limits(width: int, height: int) -> CodecLimits:
    """The codecs' own habits up to 1080p, and fewer frames the larger they are: their share
    of the memory stays the same until there is no less to take.
    """
    share = min(1.0, FULL_HD / (width * height))
    threads = min(16, (os.cpu_count() or 1) + 1)  # FFmpeg's own choice
    return CodecLimits(max(5, round(FRAMES_AHEAD * share)), min(threads, max(2, round(16 * share))))


def frame_memory(
    width: int, height: int, in_flight: int, written: tuple[int, int] | None = None
) -> int:
    """What decoder, encoder and the frames between them take, in bytes, while ``in_flight``
    frames are in the engine; ``written`` is the size of the encoder's, if it is another.
    """
    wide, high = written or (width, height)
    encoder = ENCODER + LOOKAHEAD * codec_limits(wide, high).lookahead + CODED * YUV
    decoder = DECODER + DECODER_THREAD * codec_limits(width, height).decoder_threads
    # A frame and its result for each that the pipeline holds, and one at each end.
    queue = (2 * RGB + YUV) * (2 * in_flight + 2)
    return round(encoder * wide * high + (decoder + queue) * width * height)
