"""Nothing that is read is run: no package unpickles, evaluates or loads objects out of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("train", "export", "runtime", "benchmarks")
# Modules whose loading runs what a file says.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
           "jsonpickle", "yaml"}  # fmt: skip
BUILT_IN = {"eval", "exec", "compile", "__import__"}
# What a call must say, literally, to be safe; None where there is no safe way.
LOADERS: dict[str, tuple[str, bool] | None] = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.jit.load": None,
    "torch.hub.load": None,
    "pandas.read_pickle": None,
    "keras.models.load_model": None,
    "keras.saving.load_model": None,
    "os.system": None,
    "os.popen": None,
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def find_dangers(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in BUILT_IN:
                yield name
            if name in LOADERS and not is_safe(node, LOADERS[name]):
                yield name
            for keyword in node.keywords:
                risky = keyword.arg in ("allow_pickle", "shell", "safe_mode")
                value = keyword.value
                wanted = keyword.arg == "safe_mode"
                if risky and not (isinstance(value, ast.Constant) and value.value is wanted):
                    yield f"{name}({keyword.arg}={ast.unparse(value)})"


def is_safe(call: ast.Call, wanted: tuple[str, bool] | None) -> bool:
    return wanted is not None and any(
        keyword.arg == wanted[0]
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is wanted[1]
        for keyword in call.keywords
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_it_reads(path: Path) -> None:
    assert not list(find_dangers(path.read_text()))


@pytest.mark.parametrize(
    ("text", "danger"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import yaml", "yaml"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("torch.load(path, weights_only=safe)", "torch.load"),
        ("np.load(path)", "np.load"),
        ("np.load(path, allow_pickle=True)", "np.load"),
        ("h5.read(allow_pickle=yes)", "h5.read(allow_pickle=yes)"),
        ("subprocess.run(line, shell=True)", "subprocess.run(shell=True)"),
    ],
)
def test_each_danger_is_seen(text: str, danger: str) -> None:
    assert danger in list(find_dangers(text))


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path, weights_only=True, map_location='cpu')",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "re.compile('x')",
        "json.loads(text)",
    ],
)
def test_what_is_safe_passes(text: str) -> None:
    assert not list(find_dangers(text))
