"""``deblur-video``: the command line of the runtime."""

from __future__ import annotations

import hashlib
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from deblurgan.runtime import backends, console
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.compare import LAYOUTS, Comparison, check_layout
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT
from deblurgan.runtime.pictures import deblur_pictures, is_picture, list_jobs
from deblurgan.runtime.preview import save_preview
from deblurgan.runtime.progress import FrameProgress
from deblurgan.runtime.report import describe_run
from deblurgan.runtime.targets import (
    check_all_apart,
    check_beside,
    check_picture_beside,
    check_target,
)
from deblurgan.runtime.tiling.fitting import parse_tile
from deblurgan.runtime.tiling.memory import parse_memory
from deblurgan.runtime.tiling.tiles import TiledBackend
from deblurgan.runtime.video.codecs import CODECS, HARDWARE, Encoding, check_hardware
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span, parse_span

app = console.new_app("Make blurred video sharp.")

ENGINE, VIDEO, LOOKING, SAYING = "Model and engine", "Video", "Looking", "What it says"


@dataclass
class Job:
    """What a run is to do, as asked for; ``warnings`` are those of the run so far."""

    source: Path
    target: Path
    encoding: Encoding = field(default_factory=Encoding)
    span: Span = field(default_factory=Span)
    compare: str | None = None
    drop_streams: bool = False
    verify: bool = True
    resume: bool = True
    picture: BeforeAfter | None = None
    report: Path | None = None
    warnings: list[str] = field(default_factory=list)

    def warn(self, line: str) -> None:
        self.warnings.append(line)
        console.say(line)


@app.command(no_args_is_help=True)
def deblur(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A video, a picture, or a folder of pictures.")
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT", help="Where to write: of the same kind as IN.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace OUT if it is there.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="A shipped model's name, or a file that deblur-export wrote.",
            rich_help_panel=ENGINE,
        ),
    ] = DEFAULT,
    backend: Annotated[
        str,
        typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.", rich_help_panel=ENGINE),
    ] = backends.AUTO,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processor threads of a CPU engine; all by default.", rich_help_panel=ENGINE
        ),
    ] = None,
    tile: Annotated[
        str,
        typer.Option(
            help="Cut frames into tiles of so many pixels a side; auto only where one does not "
            "fit into the memory, none never.",
            rich_help_panel=ENGINE,
        ),
    ] = "auto",
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What the program may take, like 4G; what is free by default.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Begin here: 90, 1:30 or 0:01:30.5.", rich_help_panel=VIDEO
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="So much of it, not all.", rich_help_panel=VIDEO),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(CODECS)}; h264 by default, hevc for more than 8 bits, av1 in webm.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            help="Constant rate factor, less is better; visually lossless by default.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="The encoder's own preset; medium by default, 8 for av1.", rich_help_panel=VIDEO
        ),
    ] = None,
    hardware: Annotated[
        str,
        typer.Option(
            help=f"The GPU's decoder and encoder, {', '.join(HARDWARE)}: auto takes them "
            "where they work.",
            rich_help_panel=VIDEO,
        ),
    ] = "auto",
    drop_streams: Annotated[
        bool,
        typer.Option(
            "--drop-streams",
            help="Leave out sound and subtitles that OUT's container cannot hold.",
            rich_help_panel=VIDEO,
        ),
    ] = False,
    no_verify: Annotated[
        bool,
        typer.Option(
            "--no-verify",
            help="Do not read OUT again to see that nothing was lost.",
            rich_help_panel=VIDEO,
        ),
    ] = False,
    no_resume: Annotated[
        bool,
        typer.Option(
            "--no-resume",
            help="Begin anew, and keep nothing of a run that is stopped.",
            rich_help_panel=VIDEO,
        ),
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="First write a picture of a few frames, before and after; without OUT only that.",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help=f"Show before and after in OUT: {' or '.join(LAYOUTS)}.", rich_help_panel=LOOKING
        ),
    ] = None,
    before_after: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Also write a picture of the frame that changed most.",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT", help="Also write what was done, as JSON.", rich_help_panel=SAYING
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=SAYING),
    ] = False,
) -> None:
    """Make blurred video sharp.

    Sound, subtitles, timestamps and colours stay as they are. OUT appears
    when it is whole; whatever stops the run, no half of it is left. With
    --debug anywhere, an error shows where it happened.

    Examples:

      deblur-video shaky.mp4 sharp.mp4

      deblur-video shaky.mp4 --preview look.png

      deblur-video shaky.mp4 look.mp4 --compare split --start 1:30 --duration 10

      deblur-video frames/ sharp-frames/ --backend onnxruntime
    """
    console.messages.quiet = quiet
    check_target(source, target, overwrite, needed=preview is None)
    check_all_apart(target, before_after, preview, json)
    check_picture_beside(before_after, source, overwrite)
    check_picture_beside(preview, source, overwrite)
    check_beside(json, source, overwrite)
    if target is None and (before_after or json or compare):
        raise DeblurError(
            "--before-after, --json, --compare",
            expected="an OUT to go with them",
            found="--preview alone",
            remedy="name OUT, or leave them out",
        )
    check_layout(compare)
    check_hardware(hardware)
    pictures = source.is_dir() or is_picture(source)
    job = Job(
        source,
        target or source,
        Encoding(codec, quality, preset, hardware),
        parse_span(start, duration),
        compare,
        drop_streams,
        not no_verify,
        not no_resume,
        BeforeAfter() if before_after is not None else None,
        json,
    )
    if pictures:
        check_no_video_options(job, preview)
    with Deblurrer(
        model,
        backend=backend,
        threads=threads,
        warn=job.warn,
        tile=parse_tile(tile),
        memory_limit=None if memory_limit is None else parse_memory(memory_limit),
    ) as deblurrer:
        if preview is not None:
            with watching_builds() as deblurrer.progress:
                save_preview(preview, source, job.span, deblurrer)
            console.messages.print(f"preview: {escape(str(preview))}")
        if target is None:
            return
        (run_on_pictures if pictures else run_on_video)(job, deblurrer)
    if job.picture is not None and before_after is not None:
        job.picture.save(before_after)
        console.messages.print(f"before/after: {escape(str(before_after))}")


def run_on_video(job: Job, deblurrer: Deblurrer) -> None:
    with VideoSource(
        job.source, span=job.span, hardware=job.encoding.hardware, warn=job.warn
    ) as source:
        say_of_input(job, source)
        size = source.size
        sink = VideoSink(
            job.target,
            source,
            job.encoding,
            comparison=None if job.compare is None else Comparison(job.compare, *size),
            drop_streams=job.drop_streams,
            keep=job.resume,
            warn=job.warn,
        )
        try:
            with sink:
                if sink.left_out:
                    job.warn(f"left out: {', '.join(sink.left_out)}")
                with watching_builds() as deblurrer.progress:
                    engine = deblurrer.engine(*size, overlap=True, written=sink.size)
                say_engine(deblurrer, engine, size)
                finished = sink.go_on(describe_job(job, deblurrer, engine)) if job.resume else 0
                if finished:
                    console.messages.print(f"going on after {finished} frames of an earlier run")
                with FrameProgress(source.frame_count, job.picture, finished) as progress:
                    deblur_video(
                        source, sink, engine, progress.watch, progress.clock, verify=job.verify
                    )
                seconds = progress.seconds
        finally:
            if sink.kept_seconds:
                console.say(
                    f"{sink.kept_seconds} s of {job.target.name} are finished; the same command "
                    f"goes on from there: {shlex.join(['deblur-video', *sys.argv[1:]])}"
                )
    assert sink.manifest is not None
    frames, packets = len(sink.manifest.frames), sink.manifest.packets
    proven = f"; read again: {frames} frames, {packets} packets of sound and subtitles"
    progress.say_result(job.target, proven if job.verify else "")
    if job.report is not None:
        paths = job.source, job.target
        report = describe_run(paths, deblurrer.model, engine, size, progress.clock, seconds)
        replace(
            report,
            verified=job.verify,
            frames_of_earlier_runs=finished,
            packets_passed_on=packets,
            encoder=sink.encoder.name,
            left_out=sink.left_out,
            warnings=job.warnings,
        ).save(job.report)


def describe_job(job: Job, deblurrer: Deblurrer, engine: Backend) -> dict[str, str]:
    """What decides about the pictures, but for the file and the encoder."""
    # How large the tiles are hangs on the memory that is free just now.
    inner = engine.inner if isinstance(engine, TiledBackend) else engine
    return {
        "version": version("deblurgan-edge"),
        "model": hashlib.sha256(deblurrer.model.path.read_bytes()).hexdigest(),
        "engine": inner.description,
        "tile": str(deblurrer.tile),
        "compare": str(job.compare),
    }


def run_on_pictures(job: Job, deblurrer: Deblurrer) -> None:
    jobs = list_jobs(job.source, job.target)
    with FrameProgress(len(jobs), job.picture) as progress:
        engine, size = deblur_pictures(jobs, deblurrer, progress.watch, progress.clock)
    progress.say_result(job.target)
    if job.report is not None:
        paths, seconds = (job.source, job.target), progress.seconds
        describe_run(paths, deblurrer.model, engine, size, progress.clock, seconds).save(job.report)


def watching_builds() -> AbstractContextManager[console.Watch]:
    """A bar for plans, gone before the next one begins: older versions of rich show one."""
    return console.watching("% of the plan built", shown=not console.messages.quiet)


def say_of_input(job: Job, source: VideoSource) -> None:
    """What is special about a video; raises :class:`DeblurError` for HDR."""
    if source.colour.hdr:
        raise DeblurError(
            job.source,
            expected="standard dynamic range",
            found=f"HDR ({source.colour.hdr})",
            remedy="convert it first: ffmpeg -i FILE -vf "
            "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,"
            "format=yuv420p -c:a copy SDR.mp4",
        )
    if not source.colour.is_known:
        raise DeblurError(
            job.source,
            expected="colours coded in the ways of BT.601, 709, 2020, 240M or FCC",
            found=f"matrix {source.colour.matrix} of H.273",
            remedy="convert it first: ffmpeg -i FILE -vf scale=out_color_matrix=bt709 "
            "-colorspace bt709 -c:a copy CONVERTED.mp4",
        )
    if source.is_interlaced:
        job.warn(
            "interlaced: both fields of a frame are deblurred as one picture, and marked as one; "
            "better first: ffmpeg -i FILE -vf bwdif=mode=send_field -c:a copy PROGRESSIVE.mp4"
        )


def say_engine(deblurrer: Deblurrer, engine: Backend, size: tuple[int, int]) -> None:
    console.messages.print(
        f"{escape(deblurrer.model.path.stem)} ({deblurrer.model.card.precision}) "
        f"on {escape(engine.description)}, {size[0]}x{size[1]}"
    )


def check_no_video_options(job: Job, preview: Path | None) -> None:
    """Of pictures: what would change nothing is refused."""
    given = {
        "--codec, --quality, --preset": replace(job.encoding, hardware="auto") != Encoding(),
        "--start, --duration": not job.span.is_whole,
        "--compare": job.compare is not None,
        "--preview": preview is not None,
        "--drop-streams": job.drop_streams,
        "--no-verify": not job.verify,
        "--no-resume": not job.resume,
    }
    for option, is_given in given.items():
        if is_given:
            raise DeblurError(
                option,
                expected="a video",
                found=f"pictures ({job.source})",
                remedy="leave it out",
            )


def main() -> None:
    raise SystemExit(console.run(app))
