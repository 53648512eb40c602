"""The work that a model's speed is held against: fixed, and none of this project's code.

What makes a machine slower has to make it slower by as much as the model, and what makes the
model slower must leave it alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VERSION = 1  # of all that is done here: a baseline holds for one of them
ENGINE, PROCESSOR = "engine", "processor"
KINDS = (ENGINE, PROCESSOR)

CHANNELS, LAYERS, SIDE = 48, 6, 48  # of the stack of convolutions, near those of a model
OPSET, IR_VERSION = 18, 9
FLOAT, INT8 = 1, 3  # ONNX's numbers for types
ACTIVATION_SCALE = 1 / 32

Run = Callable[[], object]


def open_reference(kind: str, backend: str, precision: str, threads: int) -> Run:
    """A function that does the work once, in some milliseconds.

    ``engine`` is a stack of convolutions in the model's own engine and kind of arithmetic: it
    has the same vector units, caches and threads to thank for its speed, on any processor.
    ``processor`` is a matrix product and passes over memory, which an engine's new version
    leaves alone.
    """
    if kind == PROCESSOR:
        return open_products()
    stack = write_stack(is_int8=precision.startswith("int8"))
    return (open_openvino if backend == "openvino" else open_onnxruntime)(stack, threads)


def open_openvino(stack: bytes, threads: int) -> Run:
    from deblurgan.runtime.backends.openvino import open_core

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.onnx"
        path.write_bytes(stack)
        settings = {
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = open_core().compile_model(str(path), "CPU", settings).create_infer_request()
    picture = make_picture()
    return lambda: request.infer([picture])


def open_onnxruntime(stack: bytes, threads: int) -> Run:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(stack, settings, providers=["CPUExecutionProvider"])
    picture = make_picture()
    return lambda: session.run(None, {"x": picture})


def open_products() -> Run:
    """NumPy's threads are set before it is loaded, see :func:`products_environment`."""
    matrix = spread((512, 512))
    picture = spread((3, 360, 640))
    # Memory that is taken anew has to be mapped anew, which costs one time more than another.
    product, changed = np.empty_like(matrix), np.empty_like(picture)

    def run() -> None:
        np.matmul(matrix, matrix, out=product)
        np.multiply(picture, 0.5, out=changed)
        np.maximum(changed, 0, out=changed)

    return run


def products_environment(threads: int) -> dict[str, str]:
    """Variables for a process whose matrix products are to use so many threads."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def make_picture() -> NDArray[np.float32]:
    """What the stack is run on, ``[1, channels, side, side]`` in [-0.5, 0.5)."""
    return spread((1, CHANNELS, SIDE, SIDE))


def spread(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values in [-0.5, 0.5) that no library's random numbers decide."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (index * 2654435761 + 12345) % (1 << 32)
    return (mixed / (1 << 32) - 0.5).astype(np.float32).reshape(shape)


def write_stack(*, is_int8: bool) -> bytes:
    """An ONNX file: ``x`` through convolutions of 3x3 with ReLU, each two with a skip; with
    Q/DQ nodes before each of them where ``is_int8``.
    """
    graph = b""
    current = "x"
    for layer in range(LAYERS):
        if layer % 2 == 0:
            skip = current
        weights, given = f"w{layer}", current
        if is_int8:
            graph += field(1, node("QuantizeLinear", [given, "s", "z"], f"q{layer}"))
            graph += field(1, node("DequantizeLinear", [f"q{layer}", "s", "z"], f"d{layer}"))
            graph += field(1, node("DequantizeLinear", [weights, "sw", "z"], f"dw{layer}"))
            weights, given = f"dw{layer}", f"d{layer}"
        pads = field(5, attribute_ints("pads", [1, 1, 1, 1]))
        graph += field(1, node("Conv", [given, weights], f"c{layer}") + pads)
        graph += field(1, node("Relu", [f"c{layer}"], f"r{layer}"))
        current = f"r{layer}"
        if layer % 2:
            graph += field(1, node("Add", [current, skip], f"a{layer}"))
            current = f"a{layer}"
    shape = (CHANNELS, CHANNELS, 3, 3)
    scale = (12 / (9 * CHANNELS)) ** 0.5  # keeps the values' spread from layer to layer
    for layer in range(LAYERS):
        values = np.roll(spread(shape), layer)
        if is_int8:
            graph += field(5, tensor(f"w{layer}", np.round(values * 254).astype(np.int8)))
        else:
            graph += field(5, tensor(f"w{layer}", values * np.float32(scale)))
    if is_int8:
        graph += field(5, tensor("s", np.array(ACTIVATION_SCALE, np.float32)))
        graph += field(5, tensor("sw", np.array(scale / 254, np.float32)))
        graph += field(5, tensor("z", np.array(0, np.int8)))
    graph += field(2, b"reference")
    size = (1, CHANNELS, SIDE, SIDE)
    graph += field(11, tensor_value("x", size)) + field(12, tensor_value(current, size))
    return number(1, IR_VERSION) + field(8, number(2, OPSET)) + field(7, graph)


def node(operator: str, inputs: list[str], output: str) -> bytes:
    names = b"".join(field(1, name.encode()) for name in inputs)
    return names + field(2, output.encode()) + field(4, operator.encode())


def attribute_ints(name: str, values: list[int]) -> bytes:
    return field(1, name.encode()) + b"".join(number(8, v) for v in values) + number(20, 7)


def tensor(name: str, values: NDArray[np.float32] | NDArray[np.int8]) -> bytes:
    dims = b"".join(number(1, size) for size in values.shape)
    kind = INT8 if values.dtype == np.int8 else FLOAT
    return dims + number(2, kind) + field(8, name.encode()) + field(9, values.tobytes())


def tensor_value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(field(1, number(1, size)) for size in shape)
    kind = field(1, number(1, FLOAT) + field(2, dims))
    return field(1, name.encode()) + field(2, kind)


def number(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


def field(key: int, content: bytes) -> bytes:
    return varint(key << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
