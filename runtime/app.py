"""``deblur-video``: the command line of the runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deblurgan.runtime import backends, console
from deblurgan.runtime.backends import Frames
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT
from deblurgan.runtime.pictures import deblur_pictures, is_picture, list_jobs
from deblurgan.runtime.pipeline import Watcher
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import CODECS, Encoding, VideoSink
from deblurgan.runtime.video.source import VideoSource

app = console.new_app("Make blurred video sharp.")


@app.command(no_args_is_help=True)
def deblur(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A video, a picture, or a folder of pictures.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where to write: of the same kind as IN.")
    ],
    model: Annotated[
        str, typer.Option(help="A shipped model's name, or a file that deblur-export wrote.")
    ] = DEFAULT,
    backend: Annotated[
        str, typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.")
    ] = backends.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads of a CPU engine; all by default.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(CODECS)}; h264 by default, av1 in webm."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(help="Constant rate factor, less is better; visually lossless by default."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The encoder's own preset; medium by default, 8 for av1.")
    ] = None,
    before_after: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Also write a picture of the frame that changed most."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace OUT if it is there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Make blurred video sharp.

    Sound, subtitles, timestamps and colours stay as they are. OUT appears
    when it is whole; whatever stops the run, no half of it is left. With
    --debug anywhere, an error shows where it happened.

    Examples:

      deblur-video shaky.mp4 sharp.mp4

      deblur-video photo.jpg sharp.png

      deblur-video frames/ sharp-frames/ --backend onnxruntime
    """
    console.messages.quiet = quiet
    check_target(source, target, overwrite)
    with Deblurrer(model, backend=backend, threads=threads) as deblurrer:
        picture = BeforeAfter() if before_after is not None else None
        if source.is_dir() or is_picture(source):
            run_on_pictures(source, target, deblurrer, picture)
        else:
            run_on_video(source, target, deblurrer, picture, Encoding(codec, quality, preset))
    if picture is not None and before_after is not None:
        picture.save(before_after)
        console.messages.print(f"before/after: {escape(str(before_after))}")


def run_on_video(
    path: Path,
    target: Path,
    deblurrer: Deblurrer,
    picture: BeforeAfter | None,
    encoding: Encoding,
) -> None:
    with VideoSource(path) as source:
        if source.left_out:
            console.messages.print(f"left out: {escape(', '.join(source.left_out))}")
        if source.colour.hdr:
            raise DeblurError(
                path,
                expected="standard dynamic range",
                found=f"HDR ({source.colour.hdr})",
                remedy="convert it first: ffmpeg -i FILE -vf "
                "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,"
                "format=yuv420p -c:a copy SDR.mp4",
            )
        with VideoSink(target, source, encoding) as sink:
            engine = deblurrer.engine(source.width, source.height, overlap=True)
            console.messages.print(
                f"{escape(deblurrer.model.path.stem)} ({deblurrer.model.card.precision}) "
                f"on {escape(engine.description)}, {source.width}x{source.height}"
            )
            with FrameProgress(source.frame_count, picture) as progress:
                report = deblur_video(source, sink, engine, progress.watch)
    say_result(target, report.frames, report.seconds, report.engine_seconds)


def run_on_pictures(
    source: Path, target: Path, deblurrer: Deblurrer, picture: BeforeAfter | None
) -> None:
    jobs = list_jobs(source, target)
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with FrameProgress(len(jobs), picture) as progress:
        engine_seconds = deblur_pictures(jobs, deblurrer, progress.watch)
    say_result(target, len(jobs), time.monotonic() - start, engine_seconds)


class FrameProgress:
    """A bar with frames a second and the time that is left; silent without a terminal."""

    def __init__(self, total: int | None, picture: BeforeAfter | None) -> None:
        self.watchers: list[Watcher] = [picture.watch] if picture is not None else []
        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total} frames"),
            TextColumn("{task.speed:.2f} fps", table_column=None),
            TimeRemainingColumn(),
            console=console.messages,
            transient=True,
            disable=console.messages.quiet or not console.messages.is_terminal,
        )
        self.task = self.bar.add_task("deblurring", total=total)

    def watch(self, blurred: Frames, sharp: Frames) -> None:
        console.check_interrupted()
        self.bar.advance(self.task)
        for watcher in self.watchers:
            watcher(blurred, sharp)

    def __enter__(self) -> FrameProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse what would destroy something, before anything is loaded."""
    if not source.exists():
        raise DeblurError(
            source,
            expected="a video, a picture or a folder",
            found="nothing there",
            remedy="check the path",
        )
    if target.exists() and source.samefile(target):
        raise DeblurError(
            target,
            expected="another file than the input",
            found="the input itself",
            remedy="choose another name",
        )
    if target.exists() and not overwrite:
        raise DeblurError(
            target,
            expected="a name that is free",
            found="something there already",
            remedy="choose another name, or replace it with -y",
        )


def say_result(target: Path, frames: int, seconds: float, engine_seconds: float) -> None:
    console.messages.print(
        f"{escape(str(target))}: {frames} frames in {seconds:.1f} s, "
        f"{frames / max(seconds, 1e-9):.2f} fps, "
        f"engine {1000 * engine_seconds / max(frames, 1):.0f} ms a frame"
    )


def main() -> None:
    raise SystemExit(console.run(app))
