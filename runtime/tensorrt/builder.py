"""A contract file into a plan: strongly typed, with one path from TensorRT 10.3 to 11 and RTX.

The precision is in the graph, so no flag sets one. The build runs in a thread
of its own: what arrives meanwhile (Ctrl-C, an error of ``progress``) arrives
where it is waited for, cancels the build at its next step, and nothing is written.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import INPUT, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.device_memory import check_room, estimate_need, measure_room
from deblurgan.runtime.tensorrt.parser import EXPORT_AGAIN, parse_onnx
from deblurgan.runtime.tensorrt.profiles import Profile
from deblurgan.runtime.tensorrt.progress import STEPS, BuildProgress, make_monitor
from deblurgan.runtime.tensorrt.timing_cache import TimingFile, TimingKey

LEVELS = range(6)
GLANCE = 0.1  # seconds between two looks at how far a build is
MEMORY_WAYS = "a smaller --max, --batch 1, one --size instead of a range, or closing other programs"

# What a failed build says, and what helps.
FAILURES = (
    (r"workspace (size|limit)|insufficient workspace", "allow more with --workspace"),
    (r"out ?of ?memory|requested amount of (gpu )?memory", f"try {MEMORY_WAYS}"),
    (r"driver version is insufficient|cuda initialization failure", "update the NVIDIA driver"),
    (r"no space left", "free some space in the folder for temporary files ($TMPDIR)"),
    (r"quantized constant|only allowed before DQ", EXPORT_AGAIN),
    (r"could not find any implementation", f"allow more with --workspace, or try {MEMORY_WAYS}"),
)
ONE_AT_A_TIME = threading.Lock()
OTHERWISE = "try another --optimization-level or --size, or run the ONNX file itself"


@dataclass(frozen=True)
class BuildOptions:
    """How to build. ``workspace`` in bytes (None: all there is); ``targets`` are
    architectures of TensorRT for RTX, like ``sm89`` (none: all that it knows);
    ``rtx`` chooses between the two flavours (None: plain TensorRT where it is
    installed, and RTX where there are targets).
    """

    profile: Profile
    workspace: int | None = None
    timing_cache: Path | None = None
    optimization_level: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    targets: tuple[str, ...] = ()
    rtx: bool | None = None


@dataclass(frozen=True)
class BuiltPlan:
    """``plan`` is what ``trtexec --loadEngine`` reads; ``flavour`` the name of the
    bindings and ``tensorrt`` their version; ``layers`` those of the network before
    fusion; ``device_memory`` the bytes of activations that it will ask for, where
    TensorRT tells.
    """

    plan: bytes
    seconds: float
    tensorrt: str
    flavour: str
    targets: tuple[str, ...]
    layers: int
    device_memory: int | None


def build_plan(
    model: Model,
    options: BuildOptions,
    progress: Callable[[int, int], None] | None = None,
    *,
    warn: Callable[[str], None] | None = None,
    listen: Callable[[str], None] | None = None,
) -> BuiltPlan:
    """Build in memory; ``progress`` is told how much of 100 is done.

    ``warn`` is told what the user should know, ``listen`` all that TensorRT says;
    both may be called from another thread. Raises :class:`DeblurError` when it
    cannot be built, and ``Interrupted`` on Ctrl-C.
    """
    bindings = choose_bindings(options)
    warn = warn or (lambda _: None)
    # Kernels are timed: two builds at a time would disturb each other, and share the log.
    with ONE_AT_A_TIME:
        bindings.log.listener = listen
        try:
            check_memory(bindings, model, options.profile, warn)
            return build_in_thread(Build(bindings, model, options, warn), progress)
        finally:
            bindings.log.listener = None


def choose_bindings(options: BuildOptions) -> Bindings:
    """What builds a plan with these options; raises :class:`DeblurError` where nothing
    does, before the time is spent.
    """
    bindings = find_bindings(choose_flavour(options))
    check_options(bindings, options)
    return bindings


def choose_flavour(options: BuildOptions) -> bool | None:
    if not options.targets:
        return options.rtx
    if options.rtx is False:
        raise DeblurError(
            "--target",
            expected="TensorRT for RTX, which builds for GPUs that are not here",
            found="plain TensorRT, which builds for the GPU of this machine",
            remedy="leave out --target, or ask for TensorRT for RTX",
        )
    return True


def check_options(bindings: Bindings, options: BuildOptions) -> None:
    """Refuse what cannot work."""
    level, workspace = options.optimization_level, options.workspace
    if level is not None and level not in LEVELS:
        raise DeblurError(
            "--optimization-level",
            expected=f"{LEVELS[0]} (quick to build) to {LEVELS[-1]} (tries most)",
            found=str(level),
            remedy="leave it out for 3",
        )
    if workspace is not None and workspace < 1:
        raise DeblurError(
            "--workspace",
            expected="how much memory a layer may use for scratch",
            found=str(workspace),
            remedy="leave it out for all there is",
        )
    if options.targets:
        check_targets(bindings.trt, options.targets)
    if bindings.is_rtx and (options.version_compatible or options.hardware_compatible):
        wish = "--version-compatible" if options.version_compatible else "--hardware-compatible"
        raise DeblurError(
            wish,
            expected="plain TensorRT",
            found=f"{bindings.title}, whose plans run on every GPU they are built for",
            remedy="name those instead, like --target sm86,sm89,sm120",
        )
    if options.hardware_compatible:
        check_hardware()


def check_targets(trt: Any, targets: tuple[str, ...]) -> None:
    names = [name for name in dir(trt.ComputeCapability) if re.match(r"SM\d", name)]
    known = sorted((name.lower() for name in names), key=lambda name: int(name[2:]))
    unknown = [target for target in targets if target.lower() not in known]
    if unknown:
        raise DeblurError(
            "--target",
            expected=f"some of {', '.join(known)}",
            found=", ".join(unknown),
            remedy="leave it out for every GPU that TensorRT for RTX knows",
        )


def check_hardware() -> None:
    device = find_device()
    if device is None:
        return
    if not device.is_integrated and float(device.compute_capability) >= 8:
        return
    raise DeblurError(
        "--hardware-compatible",
        expected="a GPU in a slot, Ampere (compute capability 8.0) or newer",
        found=device.description,
        remedy="leave it out: the plan will fit this GPU",
    )


def check_memory(
    bindings: Bindings, model: Model, profile: Profile, warn: Callable[[str], None]
) -> None:
    room = measure_room(find_device())
    if room is None:
        return
    need = estimate_need(bindings, open_builder(bindings), model.path, profile)
    warning = None if need is None else check_room(need, room)
    if warning is not None:
        warn(warning)


def open_builder(bindings: Bindings) -> Any:
    """Raises :class:`DeblurError` where plain TensorRT finds no GPU."""
    bindings.log.clear()
    try:
        return bindings.trt.Builder(bindings.log.logger)
    except TypeError:  # the bindings' word for a null pointer
        said = bindings.log.errors()
    raise DeblurError(
        bindings.title,
        expected="an NVIDIA GPU and its driver: a plan is built where it will run",
        found=said[0] if said else "none",
        remedy='build there, or here for RTX GPUs: pip install ".[rtx]", then --target sm89',
    )


def build_in_thread(build: Build, progress: Callable[[int, int], None] | None) -> BuiltPlan:
    told = -1
    with ThreadPoolExecutor(1, "build") as thread:
        future = thread.submit(build.run)
        try:
            while not wait([future], GLANCE).done:
                check_interrupted()
                if progress is not None and build.progress.done > told:
                    told = build.progress.done
                    progress(told, STEPS)
        except BaseException:
            build.progress.cancel()
            # A step on a small device may take minutes, and a second Ctrl-C changes nothing.
            build.warn("stopping after this step: TensorRT does not stop within one")
            raise
    built = future.result()
    if progress is not None and told < STEPS:
        progress(STEPS, STEPS)
    return built


class Build:
    """One build: what it is told, and how far it is."""

    def __init__(
        self, bindings: Bindings, model: Model, options: BuildOptions, warn: Callable[[str], None]
    ) -> None:
        self.bindings, self.model, self.options, self.warn = bindings, model, options, warn
        self.progress = BuildProgress()

    def run(self) -> BuiltPlan:
        bindings, options = self.bindings, self.options
        started = time.monotonic()
        builder = open_builder(bindings)
        parsed = parse_onnx(bindings, builder, self.model.path)
        config = self.configure(builder)
        timings = self.open_timings()
        if timings is not None:
            load_timings(config, timings.read(self.warn))
        bindings.log.clear()
        serialized = builder.build_serialized_network(parsed.network, config)
        if serialized is None:
            raise self.explain()
        if timings is not None:
            self.keep_timings(timings, config)
        built = BuiltPlan(
            plan=bytes(serialized),
            seconds=time.monotonic() - started,
            tensorrt=bindings.version,
            flavour=bindings.name,
            targets=tuple(target.lower() for target in options.targets),
            layers=parsed.network.num_layers,
            device_memory=read_device_memory(bindings.log.infos()),
        )
        del serialized, config, parsed, builder  # in this order, each made by the next
        return built

    def configure(self, builder: Any) -> Any:
        trt, options = self.bindings.trt, self.options
        config = builder.create_builder_config()
        # On by default, and not what a file that says fp32 has been proven with.
        config.clear_flag(trt.BuilderFlag.TF32)
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.targets:
            config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
        profile = builder.create_optimization_profile()
        shapes = (options.profile.min, options.profile.opt, options.profile.max)
        profile.set_shape(INPUT, *(shape.dimensions for shape in shapes))
        if config.add_optimization_profile(profile) < 0:
            raise self.explain()
        config.progress_monitor = make_monitor(trt, self.progress)
        return config

    def open_timings(self) -> TimingFile | None:
        if self.options.timing_cache is None:
            return None
        if self.bindings.is_rtx:
            self.warn(f"--timing-cache: left out, {self.bindings.title} times no kernels")
            return None
        device = find_device()
        gpu = "unknown" if device is None else " ".join(map(str, device.identity))
        key = TimingKey(gpu, self.bindings.version, self.options.workspace)
        return TimingFile.of(self.options.timing_cache, key)

    def keep_timings(self, timings: TimingFile, config: Any) -> None:
        def combine(present: bytes) -> bytes:
            cache, other = config.get_timing_cache(), config.create_timing_cache(present)
            if cache is None:
                return present
            if present and other is not None:
                cache.combine(other, False)
            return bytes(cache.serialize())

        try:
            timings.merge(combine, self.warn)
        except DeblurError as error:  # the plan is worth more than its timings
            self.warn(str(error))

    def explain(self) -> DeblurError:
        errors = self.bindings.log.errors()
        said = "; ".join(dict.fromkeys(errors[-3:])) or "no plan, and no reason given"
        ways = [way for sign, way in FAILURES if re.search(sign, said, re.IGNORECASE)]
        if ways and self.options.workspace is not None and MEMORY_WAYS in ways[0]:
            ways[0] = f"allow more with --workspace, or try {MEMORY_WAYS}"
        return DeblurError(
            self.model.path,
            expected=f"a plan from {self.bindings.title}",
            found=said,
            remedy=ways[0] if ways else OTHERWISE,
        )


def load_timings(config: Any, content: bytes) -> None:
    """What TensorRT will not have, for another version say, becomes an empty cache."""
    for held in (content, b""):
        cache = config.create_timing_cache(held)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def read_device_memory(infos: list[str]) -> int | None:
    for text in reversed(infos):
        match = re.match(r"Total Activation Memory: (\d+) bytes", text)
        if match:
            return int(match[1])
    return None
