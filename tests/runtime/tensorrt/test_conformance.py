"""Every name of TensorRT's that our code uses is in each release that it runs with.

``getattr`` with a default and ``hasattr`` ask first and may ask for what only some
releases have. All else that is not everywhere stands in :data:`BEHIND_A_QUESTION`,
function by function, with the reason why it is not reached where it is missing.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import deblurgan.runtime

# Per release and class ("" is the module): attributes, and how each is called.
Names = dict[str, dict[str, dict[str, str]]]

STUBS = Path(__file__).with_name("stubs.py")
RELEASES = ("10.3", "10.16", "11.4", "rtx-1.7")
ROOT = Path(deblurgan.runtime.__path__[0])
SOURCES = sorted((ROOT / "tensorrt").glob("*.py"))
# Of which class our code's variables are, some only in one file.
RECEIVERS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "execution": "IExecutionContext",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "builder.py profile": "IOptimizationProfile",
    "builder.py cache": "ITimingCache",
    "device_memory.py layer": "ILayer",
    "device_memory.py tensor": "ITensor",
    "runner.py config": "IRuntimeConfig",
    "runner.py kernels": "IRuntimeCache",
}
TARGETS = "check_targets refuses --target unless the bindings have ComputeCapability"
STRATEGIES = "returns before that where there is no DynamicShapesKernelSpecializationStrategy"
BEHIND_A_QUESTION = {
    "builder.py check_targets: ComputeCapability": "the line above asks for it with hasattr",
    "builder.py configure: ComputeCapability": TARGETS,
    "builder.py configure: ComputeCapability.*": TARGETS,
    "builder.py configure: IBuilderConfig.num_compute_capabilities": TARGETS,
    "builder.py configure: IBuilderConfig.set_compute_capability": TARGETS,
    **dict.fromkeys(
        (
            "runner.py create_execution: EAGER",
            "runner.py create_execution: ICudaEngine.create_runtime_config",
            "runner.py create_execution: IRuntimeCache.deserialize",
            "runner.py create_execution: IRuntimeConfig.create_runtime_cache",
            "runner.py create_execution: "
            "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
            "runner.py create_execution: IRuntimeConfig.set_runtime_cache",
        ),
        STRATEGIES,
    ),
    "runner.py keep_kernels: IRuntimeCache.serialize": "returns before that without kernels",
}
# What is named like an attribute of TensorRT's, and is none.
OURS = {
    "card.card.precision": "a model card's",
    "file.write": "a file's of Python",
    **dict.fromkeys(
        ("options.profile.min", "options.profile.opt", "options.profile.max"), "our Profile's"
    ),
}
ROOMS = ("train", "export", "runtime", "benchmarks")


@dataclass(frozen=True)
class Use:
    """A name of TensorRT's in our code; ``owner`` is its class, ``""`` the module,
    None not known. ``asked``: the code looks whether it is there.
    """

    owner: str | None
    name: str
    file: str
    function: str
    line: int
    asked: bool = False
    keywords: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = f"{self.owner}.{self.name}" if self.owner else self.name
        return f"{self.file} {self.function}: {name}"


class Collector(ast.NodeVisitor):
    """Walks a source file and keeps in ``uses`` what of TensorRT's it names."""

    def __init__(self, file: str, classes: set[str], attributes: set[str]) -> None:
        self.file, self.classes, self.attributes = file, classes, attributes
        self.uses: list[Use] = []
        self.function = ""

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.note(node)
        if chain(node) is None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            self.note(node.func, keywords=tuple(word.arg for word in node.keywords if word.arg))
            if chain(node.func) is None:
                self.visit(node.func.value)
        elif ast.unparse(node.func) in ("getattr", "hasattr"):
            thing, name = node.args[:2]
            text = name.value if isinstance(name, ast.Constant) else "*"
            asked = len(node.args) == 3 or ast.unparse(node.func) == "hasattr"
            self.note(ast.copy_location(ast.Attribute(thing, str(text)), node), asked=asked)
        for argument in (*node.args, *(word.value for word in node.keywords)):
            self.visit(argument)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.function = self.function, node.name
        self.generic_visit(node)
        self.function = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A method that TensorRT is to call must have the name that it calls."""
        for base in node.bases:
            for method in node.body if chain(base) else []:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    self.note(ast.copy_location(ast.Attribute(base, method.name), method))
        self.generic_visit(node)

    def note(
        self, node: ast.Attribute, asked: bool = False, keywords: tuple[str, ...] = ()
    ) -> None:
        parts = chain(node)
        if parts is not None:  # trt.Logger.Severity.INFO are three
            owner = ""
            for part in parts:
                last = part is parts[-1]
                self.use(owner, part, node, asked and last, keywords if last else ())
                owner = f"{owner}.{part}".lstrip(".")
                if owner not in self.classes:
                    break
        elif ast.unparse(node) not in OURS:
            variable = ast.unparse(node.value).split(".")[-1]
            known = RECEIVERS.get(f"{self.file} {variable}", RECEIVERS.get(variable))
            if known is not None or node.attr in self.attributes:
                self.use(known, node.attr, node, asked, keywords)

    def use(
        self,
        owner: str | None,
        name: str,
        node: ast.Attribute,
        asked: bool,
        keywords: tuple[str, ...],
    ) -> None:
        self.uses.append(Use(owner, name, self.file, self.function, node.lineno, asked, keywords))


def chain(node: ast.expr) -> list[str] | None:
    """``["Logger", "INFO"]`` for ``trt.Logger.INFO`` and ``bindings.trt.Logger.INFO``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return parts[: parts.index("trt")][::-1] if "trt" in parts[1:] else None


def collect(source: str, file: str, names: Names) -> list[Use]:
    owned = [
        (owner, attributes) for classes in names.values() for owner, attributes in classes.items()
    ]
    collector = Collector(
        file,
        {owner for owner, _ in owned},
        {name for owner, attributes in owned if owner for name in attributes},
    )
    collector.visit(ast.parse(source))
    return collector.uses


def lacking(use: Use, names: Names) -> Iterator[str]:
    """The releases that do not have it, or not with these keywords."""
    for release, classes in names.items():
        owners = classes if use.owner is None else [use.owner]
        found = [classes[owner][use.name] for owner in owners if use.name in classes.get(owner, {})]
        if not found:
            yield release
        signatures = [signature for signature in found if signature]
        for word in use.keywords if signatures else ():
            if not any(re.search(rf"\b{word}:", signature) for signature in signatures):
                yield f"{release} without {word}="


def complaints(uses: list[Use], names: Names) -> list[str]:
    lines = []
    for use in uses:
        without = list(lacking(use, names))
        nowhere = len(without) == len(names) and use.name != "*"
        if nowhere or (without and not use.asked and str(use) not in BEHIND_A_QUESTION):
            lines.append(f"line {use.line} of {use} is not in {', '.join(without)}")
    return lines


@pytest.fixture(scope="module")
def names() -> Names:
    printed = subprocess.run(
        [sys.executable, str(STUBS), "names"], check=True, capture_output=True, text=True
    ).stdout
    found: Names = json.loads(printed)
    missing = [release for release in RELEASES if not found.get(release)]
    if missing:
        pytest.skip(f"no bindings of {', '.join(missing)}: make bindings")
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_release_has_what_our_code_uses(source: Path, names: Names) -> None:
    lines = complaints(collect(source.read_text(), source.name, names), names)
    assert not lines, "\n".join(lines)


def test_the_list_of_what_is_not_everywhere_is_true(names: Names) -> None:
    uses = [use for path in SOURCES for use in collect(path.read_text(), path.name, names)]
    missing = {str(use) for use in uses if not use.asked and list(lacking(use, names))}
    assert sorted(BEHIND_A_QUESTION) == sorted(missing)


def test_our_code_was_found_to_use_tensorrt(names: Names) -> None:
    uses = [use for path in SOURCES for use in collect(path.read_text(), path.name, names)]
    found = {f"{use.owner}.{use.name}" for use in uses}
    assert {
        "Builder.build_serialized_network",
        "IBuilderConfig.progress_monitor",
        "ICudaEngine.device_memory_size_v2",
        "IExecutionContext.execute_async_v3",
        "IRuntimeCache.deserialize",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "OnnxParser.parse_from_file",
        "Runtime.deserialize_cuda_engine",
    } <= found
    assert len(found) > 60


def test_no_other_room_touches_tensorrt() -> None:
    """Else the names there would go unchecked."""
    touches = re.compile(
        r"^\s*(import|from) tensorrt|import_module\(.tensorrt|\btrt\.[A-Z]", re.MULTILINE
    )
    found = {
        path.relative_to(ROOT.parent)
        for room in ROOMS
        for path in (ROOT.parent / room).rglob("*.py")
        if path.parent != ROOT / "tensorrt" and touches.search(path.read_text())
    }
    assert found == set()


# Two releases as small as the cases below need them.
OLD: dict[str, dict[str, str]] = {
    "": dict.fromkeys(("Builder", "BuilderFlag", "ILayer", "IProgressMonitor", "Logger"), ""),
    "Builder": {"build_serialized_network": "build_serialized_network(self, network: N)"},
    "BuilderFlag": {"FP16": "", "TF32": ""},
    "ICudaEngine": {"device_memory_size": "", "name": ""},
    "ILayer": {"precision": "", "name": ""},
    "IProgressMonitor": {"phase_start": ""},
    "Logger": {"Severity": ""},
    "Logger.Severity": {"INFO": ""},
}
NEW = OLD | {"BuilderFlag": {"TF32": ""}, "ICudaEngine": {"name": ""}, "ILayer": {"name": ""}}


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("config_flags = [trt.BuilderFlag.FP16]", "BuilderFlag.FP16 is not in new"),
        ("f(self.bindings.trt.BuilderFlag.FP16)", "BuilderFlag.FP16 is not in new"),
        ("size = self.engine.device_memory_size", "ICudaEngine.device_memory_size is not in new"),
        ("found[0].precision = half", "precision is not in new"),
        ("builder.build_serialised_network(network)", "is not in old, new"),
        ("builder.build_serialized_network(graph=1)", "old without graph=, new without graph="),
        ("class M(trt.IProgressMonitor):\n  def phase_starts(self): ...", "is not in old, new"),
        ("getattr(trt.BuilderFlag, 'FP61', None)", "BuilderFlag.FP61 is not in old, new"),
        ("getattr(trt.BuilderFlag, 'FP16')", "BuilderFlag.FP16 is not in new"),
        ("trt.Logger.Severity.DEBUG", "Logger.Severity.DEBUG is not in old, new"),
        ("getattr(trt.BuilderFlag, 'FP16', None)", None),
        ("hasattr(trt.BuilderFlag, 'FP16')", None),
        ("trt.BuilderFlag.TF32", None),
        ("builder.build_serialized_network(network=network)", None),
        ("class M(trt.IProgressMonitor):\n  def phase_start(self): ...", None),
        ("trt.Logger.Severity.INFO.name", None),
        ("self.options.targets", None),
    ],
)
def test_a_planted_use_is_caught(code: str, fault: str | None) -> None:
    names = {"old": OLD, "new": NEW}
    lines = complaints(collect(code, "planted.py", names), names)
    assert len(lines) == (fault is not None), lines
    assert fault is None or fault in lines[0]


def test_what_eleven_has_no_more_is_caught(names: Names) -> None:
    lines = complaints(collect("flag = trt.BuilderFlag.FP16", "planted.py", names), names)
    assert [line.split(" not in ")[1] for line in lines] == ["11.4, rtx-1.7"]
