from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.tensorrt import bindings
from deblurgan.runtime.tensorrt.bindings import (
    Bindings,
    Log,
    find_bindings,
    how_to_install_pycuda,
    plain,
)

NAMES = ("tensorrt", "tensorrt_rtx")
Install = Callable[[str, str | None], None]


@pytest.fixture
def none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def install(none_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package of this name, with this code, where Python finds it."""

    def install_(name: str, code: str | None) -> None:
        package = tmp_path / name
        package.mkdir()
        if code is not None:
            (package / "__init__.py").write_text(code)
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)
        if code is None:  # a folder without code yields to a package anywhere behind it
            monkeypatch.setattr(sys, "path", [str(tmp_path)])

    return install_


def test_what_is_installed_is_found(rtx: Bindings) -> None:
    assert rtx.is_rtx
    assert rtx.trt.__name__ == "tensorrt_rtx"
    assert rtx.title == f"TensorRT for RTX {rtx.trt.__version__}"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setattr(bindings.platform, "machine", lambda: name)


def test_none_installed_names_the_extras_and_jetpack(
    none_installed: None, processor: Callable[[str], None]
) -> None:
    processor("x86_64")
    with pytest.raises(DeblurError) as error:
        find_bindings()
    said = str(error.value)
    for part in ('".[trt]"', '".[rtx]"', "JetPack", "python3-libnvinfer", "--system-site-packages"):
        assert part in said
    assert said.count("not installed") == 2
    assert "expected TensorRT 10.3 to 11.x or TensorRT for RTX 1.7 to 1.x, found" in said
    assert said.index("pip") < said.index("JetPack")


def test_on_a_jetson_jetpack_comes_first(
    none_installed: None, processor: Callable[[str], None]
) -> None:
    processor("aarch64")
    with pytest.raises(DeblurError) as error:
        find_bindings()
    assert error.value.remedy.startswith("on a Jetson TensorRT comes with JetPack: sudo apt")
    assert error.value.remedy.endswith('on other machines: pip install ".[trt]" in the checkout')
    with pytest.raises(DeblurError, match=r"use an x86-64 machine: .* no packages for aarch64"):
        find_bindings(rtx=True)


def test_pycuda_comes_with_an_extra_that_brings_no_foreign_tensorrt() -> None:
    assert how_to_install_pycuda("tensorrt", "x86_64").startswith('pip install ".[trt]"')
    assert how_to_install_pycuda("tensorrt_rtx", "x86_64").startswith('pip install ".[rtx]"')
    jetson = how_to_install_pycuda("tensorrt", "aarch64")
    assert jetson.startswith('PATH=/usr/local/cuda/bin:$PATH pip install ".[jetson]"')


def test_only_the_flavour_that_was_asked_for_is_named(
    none_installed: None, processor: Callable[[str], None]
) -> None:
    processor("x86_64")
    with pytest.raises(DeblurError, match=r"\[rtx\]") as error:
        find_bindings(rtx=True)
    assert "[trt]" not in str(error.value)
    assert "JetPack" not in str(error.value)  # has no TensorRT for RTX
    with pytest.raises(DeblurError, match=r"\[trt\].*JetPack") as error:
        find_bindings(rtx=False)
    assert "[rtx]" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("__version__ = '8.6.1'; OnnxParser = 1", r"8\.6\.1, which is too old"),
        ("__version__ = '10.2.0.post1'; OnnxParser = 1", r"10\.2\.0\.post1, which is too old"),
        ("__version__ = '12.0.0.5'; OnnxParser = 1", r"12\.0\.0\.5, which is too new"),
        (
            "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
            r"does not load \(libnvinfer\.so\.10: cannot open shared object file\)",
        ),
        ("raise OSError('libcudart.so.13: no such file')", r"does not load \(libcudart"),
        ("raise RuntimeError()", r"does not load \(RuntimeError\)"),
        ("import a_library_that_is_nowhere", "installed without a_library_that_is_nowhere"),
        ("", "something else of this name"),
        (None, "something else of this name"),
    ],
)
def test_an_installation_that_does_not_do_is_described(
    code: str | None, found: str, install: Install
) -> None:
    install("tensorrt", code)
    with pytest.raises(DeblurError, match=rf"TensorRT 10\.3 to 11\.x, found tensorrt: .*{found}"):
        find_bindings(rtx=False)


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_every_supported_version_is_taken(version: str, install: Install) -> None:
    install("tensorrt", f"__version__ = {version!r}; OnnxParser = 1")
    assert find_bindings().version == version
    assert not find_bindings().is_rtx


def test_rtx_serves_where_tensorrt_is_broken(
    rtx: Bindings, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tensorrt", "raise ImportError('libnvinfer.so.10')")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx.trt)
    assert find_bindings() == rtx


def test_the_log_keeps_what_matters_and_tells_a_listener_all(rtx: Bindings) -> None:
    log, heard = Log(rtx.trt), []
    severity = rtx.trt.ILogger.Severity
    log.logger.log(severity.ERROR, "first")
    log.listener = heard.append
    log.logger.log(severity.VERBOSE, "chatter")
    log.logger.log(severity.INFO, "Total Activation Memory: 12 bytes")
    log.logger.log(severity.INTERNAL_ERROR, "second")
    assert log.errors() == ["first", "second"]
    assert log.infos() == ["Total Activation Memory: 12 bytes"]
    assert heard[0] == "verbose: chatter"
    log.clear()
    assert log.errors() == []


def test_one_logger_for_the_life_of_the_process(rtx: Bindings) -> None:
    assert find_bindings(rtx=True).log is rtx.log


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ITensor::getDimensions: Error Code 4: API Usage Error (turn: first input has type "
            "UInt8. In checkType at /_src/optimizer/common/nodeBase.cpp:456)\n"
            "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError "
            "at /_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver))",
            "turn: first input has type UInt8.",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([tactic.cpp:1676: "
            "enumerate_tactics] no tactics within workspace limit. In compileGraph at "
            "/_src/optimizer/myelin/codeGenerator.cpp:2012)",
            "Myelin: no tactics within workspace limit.",
        ),
        (
            "IExecutionContext::x: Error Code 2: OutOfMemory (Requested size was 8 bytes.)",
            "OutOfMemory: Requested size was 8 bytes.",
        ),
        ("WeightsContext.cpp:203: Failed to open file: a/b.bin", "Failed to open file: a/b.bin"),
        ("words (with a bracket)", "words (with a bracket)"),
    ],
)
def test_errors_lose_what_only_their_authors_can_read(said: str, words: str) -> None:
    assert plain(said) == words
