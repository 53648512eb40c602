"""TensorRT's Python bindings: which of the two are here, and what they say while they work.

``tensorrt`` 10.3 to 11 and ``tensorrt_rtx`` have the same classes, so all else
in this package takes whichever :func:`find_bindings` returns, and asks with
``hasattr`` for the names that not all of them have.
"""

from __future__ import annotations

import functools
import importlib
import platform
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from deblurgan.runtime.errors import DeblurError

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
# From the first version up to, but without, the last.
SUPPORTED = {"tensorrt": ((10, 3), (12, 0)), "tensorrt_rtx": ((1, 7), (2, 0))}
EXTRAS = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}
JETSON = (
    "on a Jetson TensorRT comes with JetPack: sudo apt install python3-libnvinfer, and a virtual "
    "environment sees it only when made with --system-site-packages"
)
ARM = "aarch64"

ERRORS = ("INTERNAL_ERROR", "ERROR")
KEPT = (*ERRORS, "WARNING", "INFO")
MOST_KEPT = 2000
# What each error of TensorRT for RTX is followed by where there is no GPU.
NOISE = re.compile(r"^\[checkMacros\.cpp::catchCudaError", re.MULTILINE)
# "(turn: the reason In checkType at /_src/optimizer/nodeBase.cpp:456)"
PLACE = re.compile(r"\s*\bIn \S+ at \S+:\d+|\[\w+\.(?:cpp|h):[^\]]*\]\s*|^\w+\.(?:cpp|h):\d+:?\s*")


@dataclass(frozen=True)
class Bindings:
    """TensorRT as it is installed here: the module, its import name and its version."""

    trt: Any
    name: str
    version: str

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    @property
    def title(self) -> str:
        return f"{TITLES[self.name]} {self.version}"

    @property
    def log(self) -> Log:
        return open_log(self.trt)


class Unusable(Exception):
    """Why one of the bindings cannot be used; the message says it."""


def find_bindings(rtx: bool | None = None) -> Bindings:
    """``tensorrt`` or ``tensorrt_rtx``, as asked for; with None the first that is usable.

    Raises :class:`DeblurError` that says how to install what was asked for.
    """
    names = {None: tuple(TITLES), False: ("tensorrt",), True: ("tensorrt_rtx",)}[rtx]
    reasons = []
    for name in names:
        try:
            return load_bindings(name)
        except Unusable as reason:
            reasons.append(f"{name}: {reason}")
    raise DeblurError(
        " or ".join(TITLES[name] for name in names),
        expected=" or ".join(supported(name) for name in names),
        found="; ".join(reasons),
        remedy=how_to_install(names),
    )


def how_to_install(names: Sequence[str], processor: str | None = None) -> str:
    """One of these flavours, on ``processor`` (default: this one)."""
    on_arm = (processor or platform.machine()) == ARM
    if on_arm and "tensorrt" not in names:
        return f"use an x86-64 machine: {TITLES['tensorrt_rtx']} has no packages for {ARM}"
    wanted = ("tensorrt",) if on_arm else names
    ways = " or ".join(f'pip install ".[{EXTRAS[name]}]"' for name in wanted) + " in the checkout"
    if on_arm:
        return f"{JETSON}; on other machines: {ways}"
    return f"{ways}; {JETSON}" if "tensorrt" in names else ways


def how_to_install_pycuda(name: str, processor: str | None = None) -> str:
    """With a flavour's extra; but on a Jetson that would bring a TensorRT of another kind.
    There pycuda is compiled, by an nvcc that JetPack leaves out of the PATH.
    """
    if (processor or platform.machine()) == ARM:
        return 'PATH=/usr/local/cuda/bin:$PATH pip install ".[jetson]" in the checkout'
    return f'pip install ".[{EXTRAS[name]}]" in the checkout'


def load_bindings(name: str) -> Bindings:
    """Raises :class:`Unusable`, whatever is wrong with the installation."""
    try:
        trt = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise Unusable("not installed") from None
        raise Unusable(f"installed without {error.name}") from None
    # A missing libnvinfer.so is an ImportError, an OSError or a RuntimeError.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unusable(f"installed, but it does not load ({first})") from None
    version = getattr(trt, "__version__", None)
    if version is None or not hasattr(trt, "OnnxParser"):
        places = list(getattr(trt, "__path__", ()))
        raise Unusable(f"something else of this name ({', '.join(places) or trt})")
    first_supported, end = SUPPORTED[name]
    number = read_release(version)
    if not first_supported <= number < end:
        age = "old" if number < first_supported else "new"
        raise Unusable(f"{version}, which is too {age}")
    return Bindings(trt, name, version)


def supported(name: str) -> str:
    first, end = SUPPORTED[name]
    return f"{TITLES[name]} {first[0]}.{first[1]} to {end[0] - 1}.x"


def read_release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version: (10, 3) of ``10.3.0.26``."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


class Log:
    """What TensorRT said, newest last. It keeps the messages of all builds of a
    process: :meth:`clear` before one. ``listener`` is told each line at once,
    verbose ones too, from whichever thread TensorRT says it in.
    """

    def __init__(self, trt: Any) -> None:
        self.messages: deque[tuple[str, str]] = deque(maxlen=MOST_KEPT)
        self.listener: Callable[[str], None] | None = None
        self.logger = make_logger(trt, self.note)

    def note(self, severity: str, text: str) -> None:
        if severity in KEPT:
            self.messages.append((severity, text))
        if self.listener is not None:
            self.listener(f"{severity.lower()}: {text}")

    def clear(self) -> None:
        self.messages.clear()

    def errors(self) -> list[str]:
        """In plain words: without source lines, and without what merely follows from no GPU."""
        texts = [text for severity, text in list(self.messages) if severity in ERRORS]
        return [plain(text) for text in texts if not NOISE.match(text)]

    def infos(self) -> list[str]:
        return [text for severity, text in list(self.messages) if severity == "INFO"]


@functools.cache
def open_log(trt: ModuleType) -> Log:
    """One for the life of the process: TensorRT keeps the first logger that it is given."""
    return Log(trt)


def make_logger(trt: Any, note: Callable[[str, str], None]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            note(severity.name, text)

    return Logger()


def plain(text: str) -> str:
    """An error of TensorRT's without what only its authors can read, on one line."""
    lines = [line for line in text.splitlines() if line.strip() and not NOISE.match(line)]
    joined = " ".join(PLACE.sub("", line) for line in lines)
    match = re.search(r"Error Code \d+: ([\w ]+) \((.*)\)$", joined)
    if match:
        # "Internal Error" says nothing, "OutOfMemory" all.
        joined = match[2] if match[1].endswith("Error") else f"{match[1]}: {match[2]}"
    return " ".join(joined.split())
