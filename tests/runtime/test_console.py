from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError, console
from deblurgan.runtime.console import complain, new_app, parse_size, require, run, say


def command(work: Callable[[], object]) -> Callable[[list[str]], int]:
    app = new_app("A command.")
    app.command()(lambda: work() and None)
    return lambda words: run(app, words)


def bad_input() -> None:
    raise DeblurError("in.mp4", expected="a video", found="a cat", remedy="feed it")


def our_failure() -> None:
    raise ZeroDivisionError("two\nlines")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_success_is_0() -> None:
    assert command(lambda: None)([]) == 0


@pytest.mark.parametrize(
    ("work", "status", "line"),
    [
        (bad_input, 2, "in.mp4: expected a video, found a cat; feed it"),
        (our_failure, 1, "failed: ZeroDivisionError: two lines; --debug shows where"),
        (interrupt, 130, "stopped"),
    ],
)
def test_each_end_has_its_status_and_one_line(
    work: Callable[[], object], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(work)([]) == status
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("program", ["train", "export", "runtime", "benchmarks"])
def test_each_program_tells_its_version(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = importlib.import_module(f"deblurgan.{program}.app").app
    assert run(app, ["--version"]) == 0
    assert capsys.readouterr().out == f"deblurgan-edge {metadata.version('deblurgan-edge')}\n"


def test_a_checkout_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(console, "version", missing)
    assert run(console.new_program("Several commands."), ["--version"]) == 0
    assert "of a checkout" in capsys.readouterr().out


def test_an_unknown_option_is_bad_input() -> None:
    assert command(lambda: None)(["--nonsense"]) == 2


@pytest.mark.parametrize(
    ("work", "error"), [(bad_input, DeblurError), (our_failure, ZeroDivisionError)]
)
def test_debug_shows_where(work: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        command(work)(["--debug"])


def test_signals_are_ours_only_while_a_command_runs() -> None:
    before = signal.getsignal(signal.SIGINT)
    command(lambda: None)([])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_does_not_break_the_cleaning_up() -> None:
    cleaned = []

    def work() -> None:
        try:
            interrupt()
        finally:
            interrupt()
            cleaned.append(True)

    assert command(work)([]) == 130
    assert cleaned == [True]


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(DeblurError, match=r'found no nonsense; pip install "\.\[train\]"'):
        require("train", "os", "nonsense")


@given(st.integers(1, 99999), st.integers(1, 99999))
def test_sizes_are_read_as_written(width: int, height: int) -> None:
    assert parse_size(f"{width}x{height}") == (width, height)


@given(st.text())
def test_anything_else_is_no_size(text: str) -> None:
    try:
        width, height = parse_size(text)
    except DeblurError:
        return
    assert text.lower() == f"{width}x{height}"


def test_what_is_said_is_one_line_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    say("two\n  [bold]lines")
    assert capsys.readouterr() == ("", "two [bold]lines\n")


def test_no_name_of_a_file_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("in\x1b[2J\n\x07.mp4\udcff: expected ä")
    say("\x9b31m")
    assert capsys.readouterr().err.splitlines() == [
        "in\\x1b[2J \\x07.mp4\\udcff: expected ä",
        "\\x9b31m",
    ]


def test_the_first_signal_may_end_what_ends_well() -> None:
    stopped = []
    with console.signals_interrupt():
        before = signal.getsignal(signal.SIGINT)
        with console.stopping_with(lambda: stopped.append(1)):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopped == [1]
            with pytest.raises(console.Interrupted):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
        with console.stopping_with(lambda: stopped.append(2)):
            pass
        assert signal.getsignal(signal.SIGINT) is before
    assert stopped == [1]


def test_a_signal_waits_for_what_is_made_and_lets_it_be_cleared() -> None:
    done = []

    def make() -> None:
        with console.signals_wait():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("made")

    with console.signals_interrupt():
        with pytest.raises(console.Interrupted):
            make()
        with console.signals_wait():
            done.append("cleared")
    assert done == ["made", "cleared"]
