"""Options that go together, and such as would change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.job import Job
from deblurgan.runtime.targets import Kind
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.video_input import STANDARD_STREAM, is_numbered

# What only a video file as OUT has.
OF_FILES = ("--codec, --quality, --preset", "--drop-streams", "--no-verify", "--no-resume")


def check_sharp_frames(word: str) -> None:
    """Raises :class:`DeblurError` for what is neither of the two."""
    if word not in ("keep", "deblur"):
        raise DeblurError(
            "--sharp-frames",
            expected="keep or deblur",
            found=word,
            remedy="write it like --sharp-frames keep",
        )


def check_fits(
    job: Job, kind: Kind, preview: Path | None, rate: str | None, *, shared_out: bool
) -> None:
    """What would change nothing is refused."""
    of_video = {
        "--codec, --quality, --preset": replace(job.encoding, hardware="auto") != Encoding(),
        "--start, --duration": not job.span.is_whole,
        "--compare": job.compare is not None,
        "--preview": preview is not None,
        "--drop-streams": job.drop_streams,
        "--no-verify": not job.verify,
        "--no-resume": not job.resume,
        "--sharp-frames": job.keep_sharp,
    }
    of_clips = {"--preview": preview is not None, "--before-after": job.picture is not None}
    is_file = not (job.target == STANDARD_STREAM or is_numbered(job.target))
    is_piped = job.target == STANDARD_STREAM or job.source.pipe is not None
    of_others = {
        "--max-latency": (
            "a camera, an address or standard input",
            job.max_latency and not job.source.is_stream,
        ),
        "--raw": ("standard input or output (-)", job.raw and not is_piped),
        "--rate": ("numbered pictures", rate is not None and job.source.format != "image2"),
        "--preview": ("a file", preview is not None and job.source.is_stream),
        "--start": ("a file", job.span.start > 0 and job.source.is_stream),
        "--workers, --ray": (
            "a video file",
            shared_out and (kind is Kind.PICTURES or job.source.is_stream),
        ),
        "--before-after": ("a single process", shared_out and job.picture is not None),
    }
    of_files = {
        **{option: of_video[option] for option in OF_FILES},
        "--workers, --ray": shared_out,
    }
    wrong = []
    if kind is Kind.VIDEO and not is_file:
        wrong = [
            (option, "a video file as OUT", "another")
            for option, given in of_files.items()
            if given
        ]
    elif kind is Kind.PICTURES:
        wrong = [(option, "a video", "pictures") for option, given in of_video.items() if given]
    elif kind is Kind.CLIPS:
        wrong = [(option, "one video", "several") for option, given in of_clips.items() if given]
    wrong += [
        (option, needs, "another IN") for option, (needs, given) in of_others.items() if given
    ]
    for option, needs, found in wrong:
        raise DeblurError(
            option, expected=needs, found=f"{found} ({job.source.name})", remedy="leave it out"
        )
