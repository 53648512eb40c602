"""Clips and pictures that are damaged: a message or a valid output, and a process that lives on."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.pictures import is_picture

Make = Callable[..., Path]

MUTATIONS, SAMPLE = 500, 60
LONGEST = 60  # seconds, of clips that take a tenth of one
# Where containers say what they hold, at their beginning or behind all frames.
TABLES = (b"moov", b"idx1", b"\x1c\x53\xbb\x6b")
# Runs jobs one after the other, so that five hundred do not load an engine each; what a
# damaged header asks for in memory is bounded, as the machine is not for this test alone.
WORKER = """
import contextlib, faulthandler, io, json, resource, sys
from deblurgan.runtime import console
from deblurgan.runtime.app import app

faulthandler.enable()
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = console.run(app, json.loads(line))
    print(json.dumps([code, said.getvalue()]), flush=True)
"""


@dataclass
class Outcomes:
    """How many runs ended in which way, and all that must not be."""

    codes: Counter[int] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Worker:
    """A process that runs job after job, and is started again when one ends it."""

    def __init__(self, log: Path) -> None:
        self.log, self.process = log, None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )

    def run(self, words: list[str]) -> tuple[int, str]:
        """Exit status and what was said; raises ``RuntimeError`` for a hang or a crash."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LONGEST)
        answer = process.stdout.readline() if ready else ""
        if answer:
            code, said = json.loads(answer)
            return code, said
        self.close()
        self.start()
        how = f"ended with {process.returncode}" if ready else f"hung for {LONGEST} s"
        raise RuntimeError(how)

    def close(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "worker.log")
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def clips(make_clip: Make, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("whole")
    hevc = {"x265-params": "log-level=none:bframes=2:pools=1"}
    return [
        make_clip(folder / "h264.mp4", sound=True),
        make_clip(folder / "hevc.mkv", codec="libx265", sound=True, subtitles=True, options=hevc),
        make_clip(folder / "mpeg4.avi", codec="mpeg4", sound=True),
    ]


def test_a_sample_of_damaged_clips(
    clips: list[Path], negative: Path, worker: Worker, tmp_path: Path
) -> None:
    outcomes = run_mutations(range(SAMPLE), clips, negative, worker, tmp_path)
    assert not outcomes.faults
    assert set(outcomes.codes) == {0, 2}, "some play on, some do not"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_damaged_clips(
    clips: list[Path], negative: Path, worker: Worker, tmp_path: Path
) -> None:
    outcomes = run_mutations(range(MUTATIONS), clips, negative, worker, tmp_path)
    print(outcomes.codes, *outcomes.messages.most_common(), sep="\n")
    assert not outcomes.faults


def test_damaged_pictures(
    photo: NDArray[np.uint8], negative: Path, worker: Worker, tmp_path: Path
) -> None:
    deep, alpha = photo.astype(np.uint16) * 257, np.dstack([photo, photo[:, :, 0]])
    whole = []
    for name, picture in (
        ("a.png", photo), ("b.jpg", photo), ("c.webp", photo), ("d.tiff", photo),
        ("e.bmp", photo), ("f.png", deep), ("g.png", alpha),
    ):  # fmt: skip
        cv2.imwrite(str(tmp_path / name), picture)
        whole.append(tmp_path / name)
    outcomes = run_mutations(range(20 * len(whole)), whole, negative, worker, tmp_path)
    assert not outcomes.faults
    assert set(outcomes.codes) == {0, 2}


def test_the_same_seed_does_the_same_damage(clips: list[Path]) -> None:
    whole = clips[0].read_bytes()
    made = [mutate(whole, seed) for seed in range(200)]
    assert made == [mutate(whole, seed) for seed in range(200)]
    assert all(damaged != whole for damaged in made)
    assert len(set(made)) == len(made)


def run_mutations(
    seeds: range, clips: list[Path], model: Path, worker: Worker, folder: Path
) -> Outcomes:
    outcomes, place = Outcomes(), folder / "place"
    place.mkdir()
    for seed in seeds:
        clip = clips[seed % len(clips)]
        kind = ".png" if is_picture(clip) else ".mkv" if seed % 3 else ".mp4"
        source, target = place / f"in{clip.suffix}", place / f"out{kind}"
        source.write_bytes(mutate(clip.read_bytes(), seed))
        words = [str(source), str(target), "--model", str(model), "--backend", "onnxruntime"]
        words += [] if is_picture(clip) else ["--preset", "ultrafast"]
        try:
            code, said = worker.run(words)
        except RuntimeError as error:
            outcomes.faults.append(f"{seed}: {error}")
        else:
            outcomes.codes[code] += 1
            fault = find_fault(code, said, source, target)
            if fault:
                outcomes.faults.append(f"{seed}: {fault}")
            if code:
                outcomes.messages[said.splitlines()[-1].replace(str(source), "IN")] += 1
        for path in place.iterdir():
            path.unlink()
    return outcomes


def find_fault(code: int, said: str, source: Path, target: Path) -> str:
    """What is wrong with how a run ended, empty where nothing is."""
    names = {path.name for path in source.parent.iterdir()} - {source.name}
    if "Traceback" in said or "failed: " in said:
        return said
    if code not in (0, 1, 2):
        return f"exit status {code}: {said}"
    if code and not said.strip():
        return f"exit status {code} without a word"
    if code == 0 and names == {target.name}:
        return why_not_whole(target)
    if code == 0 or names:
        return f"exit status {code} with {names or 'nothing'} in the folder: {said}"
    return ""


def why_not_whole(path: Path) -> str:
    try:
        with av.open(str(path)) as file:
            times = [frame.pts for frame in file.decode(video=0)]
    except av.FFmpegError as error:
        return f"an output that does not decode: {error}"
    # Times finer than the container's ticks may be one.
    if not times or times != sorted(times):
        return f"an output whose frames are at {times}"
    return ""


def mutate(content: bytes, seed: int) -> bytes:
    """The content with a kind of damage, and at places, that the seed decides."""
    random, damaged = Random(seed), bytearray(content)
    size = random.choice((4, 16, 64, 256, 1024))
    kind = random.choice(("cut", "bits", "bits", "bits", "zeros", "swap", "twice"))
    first, second = pick_place(content, random), pick_place(content, random)
    if kind == "cut":
        return content[:first]
    if kind == "bits":
        for _ in range(random.randint(1, 50)):
            damaged[pick_place(content, random)] ^= 1 << random.randrange(8)
    elif kind == "zeros":
        damaged[first : first + size] = bytes(len(damaged[first : first + size]))
    elif kind == "twice":
        damaged[first:first] = content[first : first + size]
    else:
        first, second = sorted((first, second))
        size = min(size, second - first, len(content) - second)
        damaged[first : first + size] = content[second : second + size]
        damaged[second : second + size] = content[first : first + size]
    if damaged == content:  # zeros over zeros
        damaged[first] ^= 1 << random.randrange(8)
    return bytes(damaged)


def pick_place(content: bytes, random: Random) -> int:
    """Half of them in headers and tables, which are a small part of a file."""
    starts = [content.rfind(tag) for tag in TABLES if tag in content]
    headers = [(0, min(600, len(content))), *((start, len(content)) for start in starts)]
    return random.randrange(*random.choice([(0, len(content)), random.choice(headers)]))
