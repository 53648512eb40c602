"""How every command of the project starts and ends: one line for an error,
an exit status that a script can rely on, a traceback only under ``--debug``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from deblurgan.runtime.errors import DeblurError, Failure

BAD_INPUT, OUR_FAILURE, INTERRUPTED = 2, 1, 130

messages = Console(stderr=True, highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)  # never quiet


def new_app(help_text: str) -> typer.Typer:
    """A command line with the project's manners."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def show_version(wanted: bool) -> None:
    if wanted:
        try:
            found = version("deblurgan-edge")
        except PackageNotFoundError:
            found = "of a checkout that is not installed"
        typer.echo(f"deblurgan-edge {found}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=show_version, is_eager=True
    ),
]


def new_program(help_text: str) -> typer.Typer:
    """A command line of several commands."""
    app = new_app(help_text)

    @app.callback()
    def program(version: Version = False) -> None: ...

    return app


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; ``--debug`` is taken anywhere."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        with signals_interrupt():
            app(args=[word for word in given if word != "--debug"])
    except SystemExit as exit_:  # typer's own end, with usage errors already shown
        return exit_.code if isinstance(exit_.code, int) else OUR_FAILURE
    except Interrupted:
        complain("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; flushing at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUR_FAILURE
    except DeblurError as error:
        if debug:
            raise
        complain(str(error))
        return OUR_FAILURE if isinstance(error, Failure) else BAD_INPUT
    except Exception as error:
        if debug:
            raise
        complain(f"failed: {type(error).__name__}: {error}; --debug shows where")
        return OUR_FAILURE
    return 0


def leave(status: int) -> NoReturn:
    """End the process here and now, with what was said and without tearing Python down."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it has left
            stream.flush()
    os._exit(status)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not KeyboardInterrupt, which typer would turn into its own."""


_interrupted = threading.Event()
_wake: Callable[[], None] | None = None


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the stack, so that what is open is cleaned up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _interrupted.is_set():
            return  # a second Ctrl-C must not break the cleaning up after the first
        _interrupted.set()
        if _wake is None:
            raise Interrupted
        _wake()

    messages.quiet = False
    _interrupted.clear()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        _interrupted.clear()


@contextmanager
def stopping_with(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM call ``stop`` instead, for what ends well when it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]

    def restore() -> None:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)

    def first(number: int, frame: FrameType | None) -> None:
        restore()
        stop()

    for number in signals:
        signal.signal(number, first)
    try:
        yield
    finally:
        restore()


@contextmanager
def signals_wake(wake: Callable[[], None] | None) -> Iterator[None]:
    """Let a signal call ``wake`` and raise nothing before the end, for threads that share
    locks: raised between taking one and holding it, the exception would leave it locked for
    ever. Whoever is woken looks with :func:`check_interrupted`.

    With None it raises again, where one waits for what may never come and holds no lock.
    """
    global _wake
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _wake = _wake, wake
    try:
        check_interrupted()
        yield
    finally:
        _wake = before
        check_interrupted()  # before whatever the signal has broken


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let a signal raise nothing before the end, while something is made that nobody holds
    yet, or is cleared away: on the way into a context or out of it, the exception would
    leave it there.
    """
    global _wake
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _wake, had_arrived = _wake, lambda: None, _interrupted.is_set()
    try:
        yield
    finally:
        _wake = before
        if not had_arrived and _interrupted.is_set():
            if before is None:
                raise Interrupted
            before()


def check_interrupted() -> None:
    """For long loops: raise what native code may have swallowed. ONNX Runtime,
    for one, turns any exception that arrives while it is imported into ImportError.
    """
    if _interrupted.is_set():
        raise Interrupted


def is_interrupted() -> bool:
    """Whether a signal has arrived."""
    return _interrupted.is_set()


def refuse_idle(given: Mapping[str, object], expected: str, found: str, add: str = "") -> None:
    """Refuse options that would change nothing: whoever gives one expects something of it."""
    for option, value in given.items():
        if value is not None:
            remedy = f"leave it out, or add {add}" if add else "leave it out"
            raise DeblurError(option, expected=expected, found=found, remedy=remedy)


def require(extra: str, *modules: str) -> None:
    """Raise :class:`DeblurError` naming the extra when one of its modules is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise DeblurError(
            Path(sys.argv[0]).name,
            expected=f"what the {extra} extra installs",
            found=f"no {', '.join(missing)}",
            remedy=f'pip install ".[{extra}]" in the checkout',
        )


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``1280x720`` as (width, height); raises :class:`DeblurError` for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text.lower())
    if match is None:
        raise DeblurError(
            option,
            expected="WIDTHxHEIGHT in pixels",
            found=repr(text),
            remedy=f"write it like {option} 1280x720",
        )
    return int(match[1]), int(match[2])


class Watch(Protocol):
    def __call__(self, completed: int, total: int, what: str = ..., /) -> None: ...


@contextmanager
def watching(done: str, shown: bool = True) -> Iterator[Watch]:
    """A bar on a terminal, which is told how much is done, and of how much; and of
    what, where that is another thing than ``done``.
    """
    with Progress(
        TextColumn("{task.completed} of {task.total} {task.description}"),
        BarColumn(),
        TimeRemainingColumn(compact=True),
        console=messages,
        disable=not (shown and messages.is_terminal),
        transient=True,
    ) as bar:
        task = bar.add_task(done, total=None)

        def watch(completed: int, total: int, what: str = done) -> None:
            bar.update(task, completed=completed, total=total, description=what)

        yield watch


def say(line: str) -> None:
    """What the user should know and need not mend; beside the output, not in it."""
    messages.print(Text(one_line(line), style="yellow"))


def complain(line: str) -> None:
    errors.print(Text(one_line(line), style="red"))


def one_line(text: str) -> str:
    """Names of files and what files say may hold anything, a terminal's commands as well."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
