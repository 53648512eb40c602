"""``deblur-video``: the command line of the runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deblurgan.runtime import backends, console
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT
from deblurgan.runtime.pictures import (
    check_picture_name,
    deblur_pictures,
    is_picture,
    list_jobs,
)
from deblurgan.runtime.pipeline import EngineClock
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import CODECS, CONTAINERS, Encoding, VideoSink
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
    pictures = source.is_dir() or is_picture(source)
    check_target(source, target, overwrite)
    check_before_after(before_after, source, target, overwrite)
    encoding = Encoding(codec, quality, preset)
    if pictures and encoding != Encoding():
        raise DeblurError(
            "--codec, --quality, --preset",
            expected="a video to encode",
            found=f"pictures ({source})",
            remedy="leave them out",
        )
    picture = BeforeAfter() if before_after is not None else None
    with Deblurrer(model, backend=backend, threads=threads) as deblurrer:
        if pictures:
            run_on_pictures(source, target, deblurrer, picture)
        else:
            run_on_video(source, target, deblurrer, picture, encoding)
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
            if left_out := [*source.left_out, *sink.reduced]:
                console.messages.print(f"left out: {escape(', '.join(left_out))}")
            engine = deblurrer.engine(source.width, source.height, overlap=True)
            console.messages.print(
                f"{escape(deblurrer.model.path.stem)} ({deblurrer.model.card.precision}) "
                f"on {escape(engine.description)}, {source.width}x{source.height}"
            )
            with FrameProgress(source.frame_count, picture) as progress:
                deblur_video(source, sink, engine, progress.watch, progress.clock)
    progress.say_result(target)


def run_on_pictures(
    source: Path, target: Path, deblurrer: Deblurrer, picture: BeforeAfter | None
) -> None:
    jobs = list_jobs(source, target)
    with FrameProgress(len(jobs), picture) as progress:
        deblur_pictures(jobs, deblurrer, progress.watch, progress.clock)
    progress.say_result(target)


class FrameProgress:
    """A bar with frames a second, the time that is left and the engine's share;
    without a terminal only the result.
    """

    def __init__(self, total: int | None, picture: BeforeAfter | None) -> None:
        self.clock = EngineClock()
        self.picture = picture
        self.done, self.start = 0, time.monotonic()
        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}" + (f"/{total}" if total else "") + " frames"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console.messages,
            transient=True,
            disable=console.messages.quiet or not console.messages.is_terminal,
        )
        self.task = self.bar.add_task("", total=total, rate="")

    def watch(self, blurred: Frames, sharp: Frames) -> None:
        console.check_interrupted()
        self.done += 1
        self.bar.update(self.task, advance=1, rate=self.rate())
        if self.picture is not None:
            self.picture.watch(blurred, sharp)

    def rate(self) -> str:
        fps = self.done / max(time.monotonic() - self.start, 1e-9)
        return f"{fps:.2f} fps, engine {self.clock.milliseconds:.0f} ms a frame"

    def say_result(self, target: Path) -> None:
        seconds = time.monotonic() - self.start
        console.messages.print(
            f"{escape(str(target))}: {self.done} frames in {seconds:.1f} s, {self.rate()}"
        )

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
    if target.is_dir() and not source.is_dir():
        raise DeblurError(
            target,
            expected="the name of a file",
            found="a folder",
            remedy=f"write {target / source.name}",
        )
    if source.is_dir() and target.suffix.lower() in CONTAINERS:
        raise DeblurError(
            target,
            expected="the name of a folder, as the input is one",
            found="the name of a video",
            remedy=f"write {target.with_suffix('')}",
        )
    check_free(target, source, overwrite)


def check_before_after(picture: Path | None, source: Path, target: Path, overwrite: bool) -> None:
    """The picture gets a name of its own, or none of the work begins."""
    if picture is None:
        return
    check_picture_name(picture)
    if picture.absolute() == target.absolute():
        raise DeblurError(
            picture,
            expected="another name than the output's",
            found="the same",
            remedy="choose another name",
        )
    check_free(picture, source, overwrite)


def check_free(path: Path, source: Path, overwrite: bool) -> None:
    """A name that can be written to without destroying anything."""
    if path.exists() and source.samefile(path):
        raise DeblurError(
            path,
            expected="another file than the input",
            found="the input itself",
            remedy="choose another name",
        )
    if path.exists() and not overwrite:
        raise DeblurError(
            path,
            expected="a name that is free",
            found="something there already",
            remedy="choose another name, or replace it with -y",
        )
    # A folder of pictures is made as it is needed.
    if not source.is_dir() and not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {path.absolute().parent}",
        )


def main() -> None:
    raise SystemExit(console.run(app))
