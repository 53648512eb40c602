"""The Jetson page and the Dockerfiles, held against the programs that they speak of.

Neither a Jetson nor Docker is at hand: this is what can be known without them.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from deblurgan.export.app import app as export_app
from deblurgan.runtime.app import app as video_app

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/jetson.md").read_text()
DOCKERFILES = [ROOT / "docker/Dockerfile", ROOT / "docker/Dockerfile.jetson"]
APPS = {"deblur-video": video_app, "deblur-export": export_app}
TABLE = PAGE.partition("| it says | do |")[2].partition("\n## ")[0]


def commands() -> list[str]:
    """Every ``deblur-…`` command of the page that has a word behind it."""
    found = re.findall(r"^ *(deblur-\S+ .*)$|`(deblur-[\w-]+ [^`]+)`", PAGE, re.MULTILINE)
    return [" ".join((block or inline).split()) for block, inline in found]


def find_command(words: list[str]) -> Any:
    """The one that the words name, however deep."""
    command = typer.main.get_command(APPS[words[0]])
    for word in words[1:]:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    return command


def options(command: Any) -> set[str]:
    known = {option for parameter in command.params for option in parameter.opts}
    parts = getattr(command, "commands", {}).values()  # of a group
    return known.union(*(options(part) for part in parts))


@pytest.mark.parametrize("line", [line for line in commands() if line.split()[0] in APPS])
def test_the_options_of_every_command_exist(line: str) -> None:
    words = line.split()
    named = {word for word in words if re.match(r"--?[a-z]", word)}
    assert named <= options(find_command(words)), line


def test_the_page_shows_the_whole_way() -> None:
    lines = commands()
    assert lines[0] == "deblur-video shaky.mp4 sharp.mp4"
    for start in ("deblur-export trt", "deblur-export info", "deblur-export onnx"):
        assert any(line.startswith(start) for line in lines), start


def test_the_files_of_the_checkout_that_commands_name_exist() -> None:
    named = {word for line in commands() for word in line.split() if word.count("/") > 1}
    assert named == {"runtime/models/edge-fp16.onnx", "train/checkpoints/edge.safetensors"}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_options_named_in_passing_exist() -> None:
    known = set().union(*(options(typer.main.get_command(app)) for app in APPS.values()))
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    named = set(re.findall(r"`(--[a-z-]+)[` ]", text))
    others = {"--runtime", "--gpus", "--group-add", "--entrypoint", "--build-arg"}  # Docker's
    assert named - others - {"--system-site-packages"} <= known


@functools.cache
def strings_of_the_runtime() -> tuple[str, ...]:
    """Every piece of text between two quotes, or between two values in an f-string."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "runtime").rglob("*.py")]
    constants = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)
    ]
    return tuple(node.value for node in constants if isinstance(node.value, str))


def messages() -> list[str]:
    rows = [row for row in TABLE.splitlines() if row.startswith("| ") and "---" not in row]
    return [part.strip() for row in rows for part in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_table_has_messages() -> None:
    assert len(messages()) > 15


@pytest.mark.parametrize("message", messages())
def test_what_the_table_quotes_is_what_the_program_says(message: str) -> None:
    assert any(message in text for text in strings_of_the_runtime())


def test_links_within_the_page_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert links
    assert set(links) <= anchors


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and rest, with continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(words[0], words[1]) for words in found]


def of(dockerfile: Path, instruction: str) -> list[str]:
    return [rest for name, rest in instructions(dockerfile) if name == instruction]


def copied(dockerfile: Path) -> list[str]:
    from_here = [rest for rest in of(dockerfile, "COPY") if not rest.startswith("--from")]
    return [source for rest in from_here for source in rest.split()[:-1]]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists_and_is_let_through(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    for source in copied(dockerfile):
        assert (ROOT / source).exists()
        assert f"!{source}" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied(dockerfile))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_copied_folders_hold_every_package(dockerfile: Path) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[(.*?)\]", pyproject, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = re.findall(r'"deblurgan\.([\w.]+)"', listed[1])
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    for name in names:
        folder = name.replace(".", "/")
        assert folder.split("/")[0] in copied(dockerfile)
        assert folder not in rules


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_installed_are_extras_of_the_project(dockerfile: Path) -> None:
    text = "\n".join(of(dockerfile, "RUN"))
    defaults = dict(rest.split("=", 1) for rest in of(dockerfile, "ARG") if "=" in rest)
    extras = [defaults.get(name.strip("${}"), name) for name in re.findall(r'"\.\[(.*?)\]"', text)]
    assert extras
    assert set(extras) <= set(metadata.metadata("deblurgan-edge").get_all("Provides-Extra") or [])
    assert "-c constraints.txt" in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_image_runs_the_program_and_not_as_root(dockerfile: Path) -> None:
    users, (entry,) = of(dockerfile, "USER"), of(dockerfile, "ENTRYPOINT")
    assert users[-1] not in {"root", "0"}
    assert f" {users[-1]} " in " ".join(of(dockerfile, "RUN")), "this user is made nowhere"
    scripts = {point.name for point in metadata.entry_points(group="console_scripts")}
    assert set(json.loads(entry)) <= scripts


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_base_images_are_arguments_and_the_licence_is_said(dockerfile: Path) -> None:
    declared = {rest.split("=")[0] for rest in of(dockerfile, "ARG")}
    for base in of(dockerfile, "FROM"):
        name = re.fullmatch(r"\$\{(\w+)\}(?: AS \w+)?", base)
        assert name is not None
        assert name[1] in declared
    assert "x264 and x265, which are GPL" in of(dockerfile, "LABEL")[0]


def test_the_arguments_that_the_page_gives_exist() -> None:
    declared = {rest.split("=")[0] for dockerfile in DOCKERFILES for rest in of(dockerfile, "ARG")}
    assert set(re.findall(r"--build-arg\s+(\w+)=", PAGE)) <= declared
    assert of(DOCKERFILES[1], "ARG")[0] == "BUILD_BASE", "it goes with the JetPack, so no default"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_runs_while_building_is_shell(dockerfile: Path) -> None:
    for script in of(dockerfile, "RUN"):
        done = subprocess.run(["sh", "-n", "-c", script], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
