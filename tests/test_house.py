"""The structure of the house: imports point down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module may import from its own floor and from those below it.
FLOORS = {
    "scripts": 5,
    "pipeline.stages": 4,
    "pipeline.tasks": 3,
    "pipeline.report": 3,
    "pipeline.scoring": 2,
    "pipeline.masks": 2,
    "pipeline.data": 1,
    "pipeline.artifacts": 1,
    "pipeline.config": 0,
    "pipeline.errors": 0,
    "tsgb": 0,
}
MODULES = [
    path.relative_to(ROOT)
    for package in ("tsgb", "pipeline", "scripts")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def floor_of(module):
    """The floor of a module, or None for other people's packages."""
    rooms = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len) if rooms else None


def imports_of(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down(path):
    here = floor_of(".".join(path.with_suffix("").parts))
    if here is None:
        pytest.skip("an empty package file")
    for name in imports_of(path):
        there = floor_of(name)
        if there is not None and there != here:
            assert FLOORS[there] < FLOORS[here], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_stages_and_scripts_know_hydra(path):
    if path.parts[:2] == ("pipeline", "stages") or path.parts[0] == "scripts":
        return
    assert not any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports_of(path))


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] == "tsgb"], ids=str)
def test_the_library_needs_torch_and_numpy_only(path):
    import sys

    allowed = {*sys.stdlib_module_names, "torch", "numpy", "tsgb"}
    assert {name.split(".")[0] for name in imports_of(path)} <= allowed


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_file_is_one_concept(path):
    assert len((ROOT / path).read_text().splitlines()) <= 400
