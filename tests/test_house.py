"""The structure of the house: imports point down only."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A module may import from its own floor and from those below it.
FLOORS = {
    "scripts": 8,
    "pipeline.command": 8,
    "pipeline.commands": 7,
    "pipeline.inference": 6,
    "pipeline.run": 5,
    "pipeline.stages": 4,
    "pipeline.tasks": 3,
    "pipeline.report": 3,
    "pipeline.networks": 2,
    "pipeline.masks": 2,
    "pipeline.scoring": 2,
    "pipeline.means": 2,
    "pipeline.formats": 2,
    "pipeline.data": 1,
    "pipeline.base": 0,
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


def test_imports_point_down():
    for path in MODULES:
        here = floor_of(".".join(path.with_suffix("").parts))
        for name in imports_of(path):
            there = floor_of(name)
            if here and there and there != here:
                assert FLOORS[there] < FLOORS[here], f"{path} imports {name}"


def test_every_module_has_a_floor():
    homeless = [p for p in MODULES if floor_of(".".join(p.with_suffix("").parts)) is None]

    assert homeless == [Path("pipeline/__init__.py")]


def test_only_the_executor_and_what_is_above_it_know_hydra():
    for path in MODULES:
        if path.parts[0] != "scripts" and path.parts[:2] not in (
            ("pipeline", "run"), ("pipeline", "commands"),
        ):  # fmt: skip
            found = {name.split(".")[0] for name in imports_of(path)}
            assert not found & {"hydra", "omegaconf"}, path


def test_the_library_needs_torch_and_numpy_only():
    import sys

    allowed = {*sys.stdlib_module_names, "torch", "numpy", "tsgb"}
    for path in (p for p in MODULES if p.parts[0] == "tsgb"):
        assert {name.split(".")[0] for name in imports_of(path)} <= allowed, path


def test_files_stay_short():
    long = [path for path in MODULES if len((ROOT / path).read_text().splitlines()) > 400]

    assert long == []
