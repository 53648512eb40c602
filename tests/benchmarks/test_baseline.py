"""A baseline comes back as it was written, and is refused where it says nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.benchmarks.baseline import KIND, Subject, from_result, read_baseline, to_figures
from deblurgan.benchmarks.environment import Environment, describe_environment
from deblurgan.benchmarks.gate import Process
from deblurgan.benchmarks.result_file import LARGEST, Result, write_result
from deblurgan.runtime.errors import DeblurError

SUBJECT = Subject("edge", "fp32", "openvino", "320x180", 1, "engine")
PROCESSES = (Process((0.02, 0.03), (0.01, 0.011)), Process((0.021,), (0.01,)))
REMEDY = "deblur-bench gate --write-baseline base.json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "base.json"
    write_result(path, KIND, to_figures(SUBJECT, "0" * 64, PROCESSES))
    return path


def test_what_is_written_is_read(path: Path) -> None:
    read = read_baseline(path, REMEDY)
    assert (read.subject, read.processes, read.model_sha256) == (SUBJECT, PROCESSES, "0" * 64)
    read.check(path, SUBJECT, REMEDY)
    assert read.notes(describe_environment(), "0" * 64) == []


@pytest.mark.parametrize(
    "change",
    [
        {"model": "paper"},
        {"precision": "int8"},
        {"engine": "onnxruntime"},
        {"size": "64x64"},
        {"threads": 2},
        {"reference": "processor"},
        {"reference_version": 2},
        {"clip": "1" * 64},
        {"frames": 5, "clip": "1" * 64},
    ],
)
def test_another_subject_is_refused_with_the_command_for_a_new_one(
    change: dict[str, Any], path: Path
) -> None:
    read = read_baseline(path, REMEDY)
    with pytest.raises(DeblurError) as error:
        read.check(path, replace(SUBJECT, **change), REMEDY)
    said = str(error.value)
    assert REMEDY in said
    expected, found = said.split(", found ")
    assert expected.partition("a baseline of ")[2] != found.partition("one of ")[2].split(";")[0]


def test_another_machine_is_said_and_not_refused(path: Path) -> None:
    read = read_baseline(path, REMEDY)
    here = describe_environment()
    versions = {**here.versions, "openvino": "2099.1"}
    other: Environment = replace(here, processor="Another One", versions=versions)
    notes = read.notes(other, "1" * 64)
    assert len(notes) == 3
    assert "Another One" in notes[0]
    assert "2099.1" in notes[1]
    assert "--reference processor" in notes[1]
    seen = replace(read, subject=replace(SUBJECT, reference="processor"))
    assert len(seen.notes(other, "1" * 64)) == 2


def test_every_piece_that_is_missing_or_wrong_is_told(path: Path) -> None:
    whole = json.loads(path.read_text())

    def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict):
            inner = [p for key, item in value.items() for p in places(item, (*at, key))]
        elif isinstance(value, list):
            inner = [p for key, item in enumerate(value) for p in places(item, (*at, key))]
        else:
            inner = []
        return [at, *inner] if at else inner

    unread = {("date",), ("command",), ("figures", "model_sha256")}
    for place in places(whole):
        if place in unread or (place[0] == "environment" and len(place) > 1):
            continue
        for wrong in (None, [], "nonsense", -1, {"a": 1}):
            content = json.loads(path.read_text())
            target = content
            for key in place[:-1]:
                target = target[key]
            is_text = isinstance(target[place[-1]], str) and isinstance(wrong, str)
            if is_text and place[:2] == ("figures", "subject"):
                continue  # another subject, which is compared later
            if place[-1] in ("threads", "frames", "reference_version") and wrong == -1:
                continue
            target[place[-1]] = wrong
            bad = path.with_name("bad.json")
            bad.write_text(json.dumps(content))
            with pytest.raises(DeblurError, match="a baseline that deblur-bench gate wrote"):
                read_baseline(bad, REMEDY)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"kind": "video"}', b"[" * 100_000]
)
def test_what_is_no_baseline_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    path.write_bytes(content)
    with pytest.raises(DeblurError) as error:
        read_baseline(path, REMEDY)
    assert REMEDY in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(DeblurError, match=r"no such file|a directory"):
            read_baseline(path, REMEDY)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(DeblurError, match="of another kind"):
        read_baseline(large, REMEDY)


@given(
    st.lists(
        st.lists(st.tuples(*[st.floats(1e-9, 1e6)] * 2), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_samples_come_back_to_the_last_bit(rounds: list[list[tuple[float, float]]]) -> None:
    processes = tuple(Process(*map(tuple, zip(*each, strict=True))) for each in rounds)
    figures = to_figures(SUBJECT, "", processes)
    environment = {"processor": "one", "versions": {}}
    result = Result(Path(), KIND, "", "", environment, json.loads(json.dumps(figures)))
    assert from_result(result).processes == processes
