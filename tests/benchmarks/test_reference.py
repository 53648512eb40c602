"""The reference: a true ONNX file, the same on every machine, and never a model of ours."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from deblurgan.benchmarks import reference
from deblurgan.benchmarks.reference import (
    CHANNELS,
    LAYERS,
    SIDE,
    make_picture,
    open_reference,
    products_environment,
    write_stack,
)


@pytest.mark.parametrize("is_int8", [False, True])
def test_the_stack_is_a_valid_onnx_file(is_int8: bool) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(write_stack(is_int8=is_int8))
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == LAYERS
    assert ("QuantizeLinear" in operators) == is_int8


# A baseline holds for one reference: whoever changes it changes its VERSION as well.
DIGESTS = {
    (1, False): "1bf15dc6a5235fa4",
    (1, True): "c274f7662ed15401",
}


@pytest.mark.parametrize("is_int8", [False, True])
def test_a_changed_stack_has_a_version_of_its_own(is_int8: bool) -> None:
    digest = hashlib.sha256(write_stack(is_int8=is_int8)).hexdigest()[:16]
    assert digest == DIGESTS[reference.VERSION, is_int8]


@pytest.mark.parametrize("is_int8", [False, True])
def test_values_stay_in_range_and_are_no_zeros(is_int8: bool) -> None:
    """Denormal or infinite ones would be slow on one processor and not on another."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        write_stack(is_int8=is_int8), providers=["CPUExecutionProvider"]
    )
    (made,) = session.run(None, {"x": make_picture()})
    assert made.shape == (1, CHANNELS, SIDE, SIDE)
    assert 0.05 < np.abs(made).mean() < 10


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_engines_run_it(backend: str, precision: str) -> None:
    pytest.importorskip(backend)
    run = open_reference("engine", backend, precision, 1)
    run()
    run()


def test_products_are_no_engines_work() -> None:
    open_reference("processor", "no engine", "fp32", 1)()
    assert set(products_environment(3).values()) == {"3"}
