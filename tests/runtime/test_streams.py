"""``deblur-video`` of a network's stream: one that ends, breaks off, stalls, says nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from deblurgan.runtime import console
from deblurgan.runtime.app import app
from deblurgan.runtime.video import streams

Make = Callable[..., Path]
QUICK = ("--backend", "onnxruntime", "--preset", "ultrafast")
# The program, with less patience than users have. Half a second passes between the end of
# Python and that of the process, in which a thread that is left over must do no harm.
PROGRAM = (
    "import ctypes; libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.usleep, 500_000, None);"
    "from deblurgan.runtime.video import streams; streams.PATIENCE = {};"
    "from deblurgan.runtime.app import main; main()"
)
TIMES = [512 * i for i in range(90)]  # three seconds


class Server:
    """Sends ``content`` to whoever asks, in pieces of ``pace`` seconds each (none: at once);
    from ``until`` (a share) on it does what ``then`` says: end as announced, close, reset, stall.
    """

    def __init__(
        self, content: bytes, *, until: float = 1.0, then: str = "end", pace: float = 0
    ) -> None:
        self.content, self.until, self.then, self.pace = content, until, then, pace
        self.sent, self.over = threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}/live.ts"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer: socket.socket) -> None:
        with peer:
            if self.then == "say nothing":
                self.over.wait()
                return
            try:
                peer.recv(65536)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n"
                if self.then == "end":
                    head += b"Content-Length: %d\r\n" % len(self.content)
                peer.sendall(head + b"\r\n")
                part = self.content[: int(len(self.content) * self.until)]
                size = 188 * 7 if self.pace else max(1, len(part))
                for at in range(0, len(part), size):
                    peer.sendall(part[at : at + size])
                    if self.over.wait(self.pace):
                        return
                self.sent.set()
                if self.then == "stall":
                    self.over.wait()
                elif self.then == "reset":
                    # As if it were unplugged: no farewell, what is under way is lost.
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                return

    def close(self) -> None:
        self.over.set()
        self.listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = list[Server]()

    def start(*given: object, **settings: object) -> Server:
        servers.append(Server(*given, **settings))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def broadcast(make_clip: Make, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    clip = tmp_path_factory.mktemp("live") / "in.ts"
    options = {"bf": "0", "g": "15", "tune": "zerolatency"}
    return make_clip(clip, times=TIMES, options=options, sound=True).read_bytes()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 1.0)


def deblur(*words: object) -> int:
    return console.run(app, [*map(str, words), *QUICK])


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def test_a_stream_that_ends_is_written_whole(
    serve: Callable[..., Server],
    broadcast: bytes,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    address = serve(broadcast).address
    assert deblur(address, out, "--model", negative, "--json", report) == 0
    said = capsys.readouterr().err
    assert "left out: stream 1 (audio aac)" in said
    assert "broke off" not in said
    assert "ms late (99 %: " in said
    written = frames_of(out)
    assert len(written) == 90
    assert written[0].time == 0
    told = json.loads(report.read_text())
    assert told["latency"]["frames"] == 90
    assert told["latency"]["dropped"] == 0
    assert 0 < told["latency"]["p50"] <= told["latency"]["p99"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "report.json"]


@pytest.mark.parametrize("then", ["close", "reset", "stall"])
def test_what_came_before_it_broke_off_is_kept(
    then: str,
    serve: Callable[..., Server],
    broadcast: bytes,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A camera that is unplugged, one whose machine is, one that stalls."""
    out = tmp_path / "out.mp4"
    address = serve(broadcast, until=0.6, then=then).address
    assert deblur(address, out, "--model", negative, "--max-latency", 60_000) == 0
    said = capsys.readouterr().err
    assert 40 < len(frames_of(out)) < 60
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    (line,) = [line for line in said.splitlines() if "broke off" in line]
    assert line.startswith(f"{address} broke off: ")
    assert "-err_detect" not in line


@pytest.mark.parametrize("then", ["say nothing", "end", "close", "stall"])
def test_a_stream_that_never_begins(
    then: str,
    serve: Callable[..., Server],
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = serve(b"", then=then).address
    assert deblur(address, tmp_path / "out.mp4", "--model", negative) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"{address}: expected a video, found ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nobody_at_the_address(
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/live.ts", f"rtsp://127.0.0.1:{port}/live"):
        assert deblur(address, tmp_path / "out.mp4", "--model", negative) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"{address}: expected a video, found no answer (")
        assert len(said.splitlines()) == 1


def test_a_part_of_a_stream(
    serve: Callable[..., Server], broadcast: bytes, negative: Path, tmp_path: Path
) -> None:
    """It ends by itself, though the stream does not."""
    out = tmp_path / "out.mp4"
    address = serve(broadcast, then="stall").address
    assert deblur(address, out, "--model", negative, "--duration", "1") == 0
    assert len(frames_of(out)) == 30


def test_what_cannot_be_with_a_stream(
    negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, out = "rtsp://127.0.0.1:1/x", tmp_path / "out.mp4"
    for words, said in (
        (["--start", "1"], "--start: expected a file, found another IN"),
        (["--preview", tmp_path / "look.png"], "--preview: expected a file"),
        (["--raw", "64x48"], "--raw: expected standard input or output (-)"),
        (["--rate", "25"], "--rate: expected numbered pictures"),
        (["--workers", "2"], "--workers, --ray: expected a video file"),
        (["--max-latency", "0"], "--max-latency"),
    ):
        assert deblur(address, out, *words, "--model", negative) == 2
        assert said in capsys.readouterr().err, words


def start(address: str, *words: object, patience: float = 30) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(patience), address, *map(str, words), *QUICK],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("then", ["stall", "go on"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_recording(
    number: signal.Signals,
    then: str,
    serve: Callable[..., Server],
    broadcast: bytes,
    negative: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.mp4"
    if then == "stall":
        server = serve(broadcast, until=0.8, then="stall")
    else:
        server = serve(broadcast, pace=0.02)
    process = start(server.address, out, "--model", negative)
    deadline = time.monotonic() + 60
    # A segment's: that of the output is there for a moment before.
    while not any(tmp_path.glob(".out.mp4.unfinished/[0-9]*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "broke off" not in said
    assert len(frames_of(out)) >= 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_signal_does_not_wait_for_an_answer(
    serve: Callable[..., Server], negative: Path, tmp_path: Path
) -> None:
    server = serve(b"", then="say nothing")
    connected = threading.Event()
    answer = server.answer
    server.answer = lambda peer: (connected.set(), answer(peer))  # type: ignore[method-assign]
    process = start(server.address, tmp_path / "out.mp4", "--model", negative)
    assert connected.wait(60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert said == "stopped\n"
    assert not list(tmp_path.iterdir())
