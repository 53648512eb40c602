"""All that is known of a plan, and how it is written down in JSON."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from deblurgan.runtime.contract import PREFIX, ModelCard
from deblurgan.runtime.golden import LARGEST, Golden
from deblurgan.runtime.tensorrt.bindings import TITLES
from deblurgan.runtime.tensorrt.profiles import Profile, Shape

VERSION = 1
TYPES = (
    ("onnx", str),
    ("onnx_sha256", str),
    ("plan_sha256", str),
    ("plan_size", int),
    ("tensorrt", str),
    ("platform", str),
    ("targets", list),
    ("hardware_compatible", bool),
    ("version_compatible", bool),
    ("layers", int),
    ("golden_missing", str),
    ("verified", bool),
    ("verified_on", str),
)


@dataclass(frozen=True)
class PlanCard:
    """What a sidecar says of the plan at ``path``.

    ``gpu`` and what follows it are the machine's that built it, None where it
    had no GPU: the name for people, and then what the plan holds for. ``card`` is
    the model's own, but for the golden pair: that is in ``golden``, at a size that
    the plan takes, or ``golden_missing`` says why not. Sizes are in bytes, ``written``
    and ``verified_at`` are UTC.
    """

    path: Path
    card: ModelCard
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    plan_size: int
    flavour: str
    tensorrt: str
    targets: tuple[str, ...]
    platform: str
    gpu: str | None
    chip: str | None
    compute_capability: str | None
    multiprocessors: int | None
    driver: str | None
    cuda: str | None
    profile: Profile
    workspace: int | None
    optimization_level: int | None
    hardware_compatible: bool
    version_compatible: bool
    seconds: float
    layers: int
    device_memory: int | None
    written: str
    golden: Golden | None
    golden_missing: str
    verified: bool = False
    verified_on: str = ""
    verified_at: str = ""

    @property
    def title(self) -> str:
        """What built it, and what it takes to run it."""
        return f"{TITLES[self.flavour]} {self.tensorrt}"

    @property
    def is_rtx(self) -> bool:
        return self.flavour == "tensorrt_rtx"

    def rebuild_command(self, targets: tuple[str, ...] = (), sizes: str = "") -> str:
        """What builds a plan of the same model again, for other ``targets`` or
        ``sizes`` (as options) if any are given.
        """
        # Whoever copies it to a shell runs what a sidecar says.
        onnx, plan = shlex.quote(self.onnx), shlex.quote(self.path.name)
        words = [f"deblur-export trt {onnx} -o {plan} --overwrite"]
        words.append(sizes or describe_sizes(self.profile))
        if self.profile.max.batch > 1:
            words.append(f"--batch {self.profile.max.batch}")
        words += ["--hardware-compatible"] if self.hardware_compatible else []
        words += ["--version-compatible"] if self.version_compatible else []
        if targets or self.targets:
            words.append(f"--target {shlex.quote(','.join(targets or self.targets))}")
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"version": VERSION}
        values |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        values["card"] = asdict(self.card)
        values["profile"] = asdict(self.profile)
        values["golden"] = self.golden and self.golden.to_json()
        return values

    @classmethod
    def from_json(cls, path: Path, values: dict[str, Any]) -> PlanCard:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        given = {f.name: values[f.name] for f in fields(cls) if f.name != "path"}
        for name, kind in TYPES:
            if not isinstance(given[name], kind):
                raise ValueError(f"{name} is not a {kind.__name__}")
        if given["flavour"] not in TITLES:
            raise ValueError("neither TensorRT nor TensorRT for RTX")
        if given["onnx"] in ("", ".", "..") or set(given["onnx"]) & set("/\\\0"):
            raise ValueError("onnx is not the name of a file")
        if not all(isinstance(target, str) for target in given["targets"]):
            raise ValueError("targets are not names")
        given["card"] = read_card(given["card"])
        given["targets"] = tuple(given["targets"])
        shapes = given["profile"]
        given["profile"] = Profile(*(read_shape(shapes[name]) for name in ("min", "opt", "max")))
        given["golden"] = given["golden"] and Golden.from_json(given["golden"])
        return cls(path=path, **given)


def describe_sizes(profile: Profile) -> str:
    """As options of ``deblur-export trt``."""
    low, best, high = (
        f"{shape.width}x{shape.height}" for shape in (profile.min, profile.opt, profile.max)
    )
    return f"--size {high}" if low == high else f"--min {low} --opt {best} --max {high}"


def read_shape(values: dict[str, Any]) -> Shape:
    """Raises ``TypeError`` or ``ValueError`` for anything but a shape that frames have."""
    shape = Shape(**values)
    for size in (shape.batch, shape.height, shape.width):
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
            raise ValueError(f"a shape is of whole numbers from 1 to {LARGEST}")
    return shape


def read_card(values: dict[str, Any]) -> ModelCard:
    return ModelCard.from_metadata(
        {
            PREFIX + name: value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }
    )
