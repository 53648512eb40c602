"""A model file as a model repository of NVIDIA's Triton inference server.

The server takes ``frames`` and gives back ``deblurred``, uint8 RGB, and puts
frames of one size that arrive together into one batch:

>>> import numpy as np
>>> from tritonclient.grpc import InferenceServerClient, InferInput
>>> client = InferenceServerClient("localhost:8001")
>>> frames = np.zeros((1, 480, 640, 3), np.uint8)
>>> tensor = InferInput("frames", list(frames.shape), "UINT8")
>>> tensor.set_data_from_numpy(frames)
>>> sharp = client.infer("edge", [tensor]).as_numpy("deblurred")

What the server refuses is refused here: its TensorRT does not load plans of
TensorRT for RTX, and the names it takes are those of folders and of addresses.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from deblurgan.export.new_folder import new_folder
from deblurgan.runtime.contract import INPUT, OUTPUT, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_file import read_onnx
from deblurgan.runtime.tensorrt.sidecar import PlanCard, open_plan, sidecar_path

CONFIG, VERSION = "config.pbtxt", "1"
FILES = {"model.onnx", "model.plan", "model.plan.json"}  # of a version
MAX_BATCH = 8
# Little beside the time of a frame, and enough for requests that were sent together.
QUEUE_DELAY_MICROSECONDS = 2000
WARMUP_SIDE = 256


@dataclass(frozen=True)
class Served:
    """What the server must know of a model file.

    ``batch`` is the most frames it takes at once, 0 where the file's batch is
    frozen at one; ``size`` is (width, height) where there is only one, and
    ``warmup`` a size that it surely takes.
    """

    path: Path
    backend: str
    platform: str
    kind: str
    precision: str
    sha256: str
    weights_sha256: str
    batch: int
    preferred: tuple[int, ...]
    size: tuple[int, int] | None
    warmup: tuple[int, int]
    remarks: tuple[str, ...]


def write_repository(
    model_path: Path,
    repository: Path,
    *,
    name: str | None = None,
    max_batch: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``repository/name`` with a configuration and the model as version 1.

    ``model_path`` is a model file (.onnx: ONNX Runtime serves it, on a GPU
    where the server has one) or a plan (.plan: TensorRT, on the GPU that it was
    built for; its sidecar goes along, and the server leaves that alone).
    ``name`` is the file's name by default; ``max_batch`` 8 for a model file and
    what its profile allows for a plan. The folder appears whole or not at all,
    and is returned. Raises :class:`DeblurError` for a file that the server could not
    run, a name it does not take, a batch that the plan does not, and for a
    folder that is there already unless ``overwrite``.
    """
    served = (read_plan if is_plan(model_path) else read_model)(model_path, max_batch)
    name = model_path.stem if name is None else name
    check_name(name)
    check_target(repository / name, overwrite)
    with new_folder(repository):
        place(served, repository / name, describe(served, name))
    return repository / name


def is_plan(path: Path) -> bool:
    return path.suffix == ".plan"


def read_model(path: Path, max_batch: int | None) -> Served:
    model = open_model(path)
    if model.card.precision == "int8-fp16":
        # ONNX Runtime mis-executes half-typed scales unless all optimisation is off.
        plan = path.with_suffix(".plan")
        raise DeblurError(
            path,
            expected="fp32, fp16 or int8, which ONNX Runtime serves",
            found="int8-fp16, which is for TensorRT",
            remedy=f"deblur-export trt {path} -o {plan}, and serve {plan}",
        )
    frozen = isinstance(read_onnx(path).inputs[0].shape[0], int)
    most = 1 if frozen else max_batch or MAX_BATCH
    check_batch(max_batch, 1 if frozen else None, path, "deblur-export onnx CHECKPOINT")
    side = max(WARMUP_SIDE, model.card.minimum_size)
    return Served(
        path=path,
        backend="onnxruntime",
        platform="onnxruntime_onnx",
        kind="KIND_AUTO",
        precision=model.card.precision,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        weights_sha256=model.card.weights_sha256,
        batch=0 if frozen else most,
        preferred=(*(size for size in (2, 4, 8, 16, 32, 64) if size < most), most),
        size=model.size,
        warmup=model.size or (side, side),
        remarks=(
            f"Frames are at least {model.card.minimum_size} pixels wide and high.",
        ),
    )  # fmt: skip


def read_plan(path: Path, max_batch: int | None) -> Served:
    plan = open_plan(path)
    if plan.is_rtx:
        raise DeblurError(
            path,
            expected="a plan of TensorRT, which the server runs",
            found=f"one of {plan.title}",
            remedy=f"serve the model file: deblur-export triton {plan.onnx} -o REPOSITORY",
        )
    low, best, high = plan.profile.min, plan.profile.opt, plan.profile.max
    rebuild = f"deblur-export trt {plan.onnx} -o {path} --batch {max_batch}"
    check_batch(max_batch, high.batch, path, rebuild)
    most = max_batch or high.batch
    fixed = (low.width, low.height) == (high.width, high.height)
    return Served(
        path=path,
        backend="tensorrt",
        platform="tensorrt_plan",
        kind="KIND_GPU",
        precision=plan.card.precision,
        sha256=plan.plan_sha256,
        weights_sha256=plan.card.weights_sha256,
        batch=most,
        preferred=tuple(sorted({min(best.batch, most), most})),
        size=(high.width, high.height) if fixed else None,
        warmup=(best.width, best.height),
        remarks=(
            f"Frames are {low.width}x{low.height} to {high.width}x{high.height} pixels.",
            *plan_needs(plan),
        ),
    )


def plan_needs(plan: PlanCard) -> tuple[str, str]:
    """What the server must have, for whoever reads the configuration."""
    gpu = f"a GPU like {plan.gpu}"  # plain TensorRT builds nowhere else
    if plan.hardware_compatible:
        gpu = "a GPU of Ampere or later"
    later = "--backend-config=tensorrt,version-compatible=true"
    return (
        f"It takes {gpu} and {plan.title}"
        + (f", or a later one with {later}." if plan.version_compatible else ", no other."),
        f"Made of {plan.onnx}, sha256 {plan.onnx_sha256}.",
    )


def check_batch(wanted: int | None, most: int | None, path: Path, command: str) -> None:
    """Refuse a ``--max-batch`` below one, or above what the file takes; ``command``
    makes a file that takes more.
    """
    if wanted is None or (wanted >= 1 and (most is None or wanted <= most)):
        return
    allowed = "at least 1" if most is None else "1" if most == 1 else f"1 to {most}"
    more = f", or make a file that takes more: {command}" if wanted > 1 else ""
    raise DeblurError(
        "--max-batch",
        expected=f"{allowed} for {path.name}",
        found=str(wanted),
        remedy=f"leave it out{more}",
    )


def check_name(name: str) -> None:
    """The server wants a folder's name that stands in an address without quoting."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name) is None:
        raise DeblurError(
            "model name",
            expected="letters, digits, '.', '_' and '-', a letter or digit first, at most 128",
            found=repr(name),
            remedy="choose one with --name",
        )


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse what is there already; with ``overwrite`` anything but a folder like ours."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise DeblurError(
            target,
            expected="no model under this name yet",
            found="one",
            remedy="choose another with --name, or replace it with --overwrite",
        )
    if target.is_symlink() or not (target / CONFIG).is_file():
        raise DeblurError(
            target,
            expected="a model's folder to replace",
            found="something else",
            remedy="choose another name with --name",
        )
    others = sorted({path.name for path in target.iterdir()} - {CONFIG, VERSION})
    if (target / VERSION).is_dir():
        files = {path.name for path in (target / VERSION).iterdir()} - FILES
        others += sorted(f"{VERSION}/{name}" for name in files)
    if others:
        raise DeblurError(
            target,
            expected=f"only {CONFIG} and version {VERSION} to replace",
            found=f"also {', '.join(others)}",
            remedy="move that away, or choose another name with --name",
        )


def describe(served: Served, name: str) -> str:
    """The configuration in protobuf's text format (``inference.ModelConfig``)."""
    width, height = served.size or (-1, -1)
    # With max_batch_size 0 the shapes are whole, else the batch is left out.
    batch = [] if served.batch else [1]
    dims = [*batch, height, width, 3]
    warm = [*batch, served.warmup[1], served.warmup[0], 3]
    lines = [
        "# Frames in, frames out: uint8 RGB, [height, width, 3].",
        *(f"# {' '.join(remark.split())}" for remark in served.remarks),
        f'name: "{name}"',
        f'platform: "{served.platform}"',
        f'backend: "{served.backend}"',
        f"max_batch_size: {served.batch}",
        f'input [ {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: {dims} }} ]',
        f'output [ {{ name: "{OUTPUT}" data_type: TYPE_UINT8 dims: {dims} }} ]',
        f"instance_group [ {{ kind: {served.kind} count: 1 }} ]",
        "version_policy { latest { num_versions: 1 } }",
    ]
    if served.batch > 1:
        lines += [
            "dynamic_batching {",
            f"  preferred_batch_size: {list(served.preferred)}",
            f"  max_queue_delay_microseconds: {QUEUE_DELAY_MICROSECONDS}",
            "}",
        ]
    lines += [
        "model_warmup [ {",
        '  name: "one frame" batch_size: 1',
        f'  inputs {{ key: "{INPUT}"',
        f"    value {{ data_type: TYPE_UINT8 dims: {warm} random_data: true }} }}",
        "} ]",
    ]
    for key in ("precision", "sha256", "weights_sha256"):
        value = getattr(served, key)
        lines.append(f'parameters {{ key: "deblurgan.{key}" value {{ string_value: "{value}" }} }}')
    return "\n".join(lines) + "\n"


def place(served: Served, target: Path, config: str) -> None:
    """Build the folder elsewhere and rename it, so that a server never sees a part of it."""
    part = workplace(target.parent) / f".{target.name}.{os.getpid()}.part"
    old = part.with_suffix(".old")
    try:
        (part / VERSION).mkdir(parents=True)
        (part / CONFIG).write_text(config)
        file = part / VERSION / f"model{'.plan' if is_plan(served.path) else '.onnx'}"
        shutil.copyfile(served.path, file)
        if is_plan(served.path):
            shutil.copyfile(sidecar_path(served.path), sidecar_path(file))
        if target.exists():
            os.rename(target, old)
        os.rename(part, target)
    except OSError as error:
        raise DeblurError(
            target,
            expected=f"room and permission to write {served.path.stat().st_size:,} bytes",
            found=(error.strerror or str(error)).lower(),
            remedy="free some space or choose another folder; an earlier model is untouched",
        ) from None
    finally:
        if old.exists() and not target.exists():
            os.rename(old, target)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def workplace(repository: Path) -> Path:
    """A folder on the repository's disk. Beside the repository where that can be:
    a server that watches it takes every folder in it for a model, hidden ones too.
    """
    repository = repository.resolve()
    parent = repository.parent
    beside = os.access(parent, os.W_OK | os.X_OK) and not os.path.ismount(repository)
    return parent if beside else repository
