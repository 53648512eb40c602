"""``deblur-video``: the command line of the runtime."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from deblurgan.runtime import backends, console
from deblurgan.runtime.batch import Summary, list_clips, run_batch
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.compare import LAYOUTS, check_layout
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.job import Job
from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.options import check_fits, check_sharp_frames
from deblurgan.runtime.preview import save_preview
from deblurgan.runtime.report import RunReport, save_reports
from deblurgan.runtime.run import run_on_pictures, run_on_video, watching_builds
from deblurgan.runtime.shared_out import run_on_workers
from deblurgan.runtime.targets import (
    Kind,
    behind_link,
    check_all_apart,
    check_beside,
    check_picture_beside,
    check_target,
    kind_of,
)
from deblurgan.runtime.tiling.fitting import parse_tile
from deblurgan.runtime.tiling.memory import parse_memory
from deblurgan.runtime.video.codecs import CODECS, HARDWARE, Encoding, check_hardware
from deblurgan.runtime.video.live import is_network_waited_for
from deblurgan.runtime.video.span import parse_span
from deblurgan.runtime.video.unfinished import was_finished
from deblurgan.runtime.video.video_input import (
    VideoInput,
    parse_input,
    parse_rate,
    parse_raw,
)
from deblurgan.runtime.video.workers import Settings, WorkerPool

app = console.new_app("Make blurred video sharp.")

ENGINE, VIDEO, LIVE = "Model and engine", "Video", "Pipes, cameras and numbered pictures"
MANY = "Many processes, many machines"
LOOKING, SAYING = "Looking", "What it says"


@app.command(no_args_is_help=True)
def deblur(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A video, a picture, a folder or a pattern ('clips/*.mp4') of either, numbered "
            "pictures (frames/%05d.png), a camera (/dev/video0), an address (rtsp://…), or - "
            "for standard input.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT",
            help="Where to write: a file for a file, a folder for several; a video may become "
            "numbered pictures, or - for standard output.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace OUT if it is there.")
    ] = False,
    version: console.Version = False,
    model: Annotated[
        str,
        typer.Option(
            help="edge, in the precision that is meant for the engine; edge-fp32, edge-fp16, "
            "edge-int8; or a file that deblur-export wrote.",
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
            help="What the program may take of the processor's memory, like 4G; by default "
            "what is free.",
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
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Share segments and clips out to so many processes (needs the ray extra).",
            rich_help_panel=MANY,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Share them out to the machines of a Ray cluster, which see the same files.",
            rich_help_panel=MANY,
        ),
    ] = None,
    keep_sharp: Annotated[
        str,
        typer.Option(
            "--sharp-frames",
            help="keep: frames that are sharp already pass by the engine; deblur: none does.",
            rich_help_panel=VIDEO,
        ),
    ] = "deblur",
    max_latency: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=1,
            help="Drop waiting frames of a camera, an address or standard input that would come "
            "out later.",
            rich_help_panel=LIVE,
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="WxH@RATE",
            help="Standard input and output are RGB frames of 8 bits without a header.",
            rich_help_panel=LIVE,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="FPS",
            help="Frames a second of numbered pictures; 30 by default.",
            rich_help_panel=LIVE,
        ),
    ] = None,
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
    when it is whole. Whatever stops the run, the same command goes on from
    there. With --debug anywhere, an error shows where it happened.

    Examples:

      deblur-video shaky.mp4 sharp.mp4

      deblur-video shaky.mp4 --preview look.png

      deblur-video shaky.mp4 look.mp4 --compare split --start 1:30 --duration 10

      deblur-video clips/ sharp-clips/ --sharp-frames keep

      deblur-video frames/ sharp-frames/ --backend onnxruntime

      ffmpeg -i in.mkv -f yuv4mpegpipe - | deblur-video - - | ffplay -
    """
    console.messages.quiet = quiet
    kind = kind_of(source)
    target = None if target is None else behind_link(target)
    if kind is Kind.VIDEO and target and was_finished(Path(target)) and not overwrite:
        if json or preview or before_after:
            raise DeblurError(
                target,
                expected="a run whose report or picture is to be written",
                found="that the run before had finished it",
                remedy="make it anew with -y, or leave --json, --preview and --before-after out",
            )
        console.messages.print(f"{escape(target)}: the run before had finished it")
        return
    check_target(source, target, kind, overwrite, needed=preview is None)
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
    check_sharp_frames(keep_sharp)
    frames = None if raw is None else parse_raw(raw)
    speed = None if rate is None else parse_rate("--rate", rate)
    job = Job(
        parse_input(source, frames, speed, is_live=max_latency is not None)
        if kind is Kind.VIDEO
        else VideoInput.of_file(Path(source)),
        target or "",
        Encoding(codec, quality, preset, hardware),
        parse_span(start, duration),
        compare=compare,
        drop_streams=drop_streams,
        verify=not no_verify,
        resume=not no_resume,
        overwrite=overwrite,
        raw=frames,
        keep_sharp=keep_sharp == "keep",
        max_latency=None if max_latency is None else max_latency / 1000,
        picture=BeforeAfter() if before_after is not None else None,
        wants_report=json is not None,
    )
    check_fits(job, kind, preview, rate, shared_out=bool(workers or ray))
    settings = Settings(
        find_model(model).reference,
        backend,
        threads,
        parse_tile(tile),
        None if memory_limit is None else parse_memory(memory_limit),
    )
    if target is not None and kind is not Kind.PICTURES and (workers or ray):
        with WorkerPool(settings, address=ray, workers=workers) as pool:
            report_many(share_out(source, Path(target), job, kind, pool), json)
        return
    with Deblurrer(
        settings.model,
        backend=backend,
        threads=threads,
        warn=job.warn,
        tile=settings.tile,
        memory_limit=settings.memory_limit,
    ) as deblurrer:
        if preview is not None:
            with watching_builds() as deblurrer.progress:
                save_preview(preview, job.source, job.span, deblurrer)
            console.messages.print(f"preview: {escape(str(preview))}")
        if target is None:
            return
        if kind is Kind.CLIPS:
            report_many(deblur_clips(source, Path(target), job, deblurrer), json)
            return
        if kind is Kind.PICTURES:
            report = run_on_pictures(Path(source), Path(target), job, deblurrer)
        else:
            report = run_on_video(job, deblurrer)
        if job.picture is not None and before_after is not None:
            if job.picture.pair is None:  # an earlier run had finished all frames
                save_preview(before_after, job.source, job.span, deblurrer)
            else:
                job.picture.save(before_after)
            console.messages.print(f"before/after: {escape(str(before_after))}")
    if json is not None:
        report.save(json)
    if report.failed:
        raise typer.Exit(console.BAD_INPUT)


def deblur_clips(source: str, folder: Path, job: Job, deblurrer: Deblurrer) -> Summary:
    def deblur_clip(clip: Path, target: Path) -> RunReport:
        own = job.of_clip(clip, target)
        deblurrer.warn = own.warn
        return run_on_video(own, deblurrer)

    return run_batch(list_clips(source), folder, job.overwrite, deblur_clip)


def share_out(source: str, target: Path, job: Job, kind: Kind, pool: WorkerPool) -> Summary:
    model = find_model(pool.settings.model)
    if kind is not Kind.CLIPS:
        return Summary([run_on_workers(job, model, pool, is_alone=True)])

    def deblur_clip(clip: Path, out: Path) -> RunReport:
        return run_on_workers(job.of_clip(clip, out), model, pool, is_alone=False)

    return run_batch(list_clips(source), target, job.overwrite, deblur_clip, at_once=pool.size)


def report_many(summary: Summary, json: Path | None) -> None:
    """Write the report, if there is to be one; exit as is due where a clip failed."""
    if json is not None and len(summary.reports) == 1 and not summary.failed:
        summary.reports[0].save(json)
    elif json is not None:
        save_reports(json, summary.reports, summary.failed)
    if summary.failed:
        raise typer.Exit(console.BAD_INPUT)


def main() -> None:
    try:
        status = console.run(app)
    except Exception:  # under --debug
        if not is_network_waited_for():
            raise
        traceback.print_exc()
        status = console.OUR_FAILURE
    if is_network_waited_for():
        # That thread asks Python for the time ten times a second (PyAV's timeout): the
        # process has to end before Python does, or it would with a segmentation fault.
        console.leave(status)
    raise SystemExit(status)
