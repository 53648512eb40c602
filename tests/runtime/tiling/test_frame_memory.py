from __future__ import annotations

import pytest

from deblurgan.runtime.tiling.frame_memory import codec_limits, frame_memory

GIB = 1 << 30
SIZES = [(640, 360), (1280, 720), (1920, 1080), (3840, 2160), (7680, 4320), (16384, 8640)]


def test_up_to_1080p_codecs_keep_their_habits() -> None:
    limits = [codec_limits(*size) for size in SIZES[:3]]
    assert {limit.lookahead for limit in limits} == {40}
    assert len(set(limits)) == 1


def test_larger_frames_are_fewer() -> None:
    limits = [codec_limits(*size) for size in SIZES]
    assert [limit.lookahead for limit in limits[3:]] == [10, 5, 5]
    threads = [limit.decoder_threads for limit in limits]
    assert threads == sorted(threads, reverse=True)
    assert threads[-1] == 2


@pytest.mark.parametrize("in_flight", [1, 2, 8])
def test_larger_frames_take_more_all_the_same(in_flight: int) -> None:
    sizes = [frame_memory(*size, in_flight) for size in SIZES]
    assert sizes == sorted(sizes)
    assert frame_memory(1920, 1080, in_flight) < frame_memory(1920, 1080, in_flight + 1)


def test_8k_leaves_room_for_an_engine_in_4_gib() -> None:
    assert 2.5 * GIB < frame_memory(7680, 4320, in_flight=1) < 3.5 * GIB
