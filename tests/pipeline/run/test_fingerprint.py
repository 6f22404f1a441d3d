"""The fingerprint of code moves with what can change a result, and with nothing else."""

import ast
import inspect
import json
import subprocess
import sys

import pytest

from pipeline.run import fingerprint
from pipeline.run.fingerprint import code_version, reached_modules
from pipeline.run.table import STAGES
from tests.conftest import ROOT

WORK = {name: stage.module for name, stage in STAGES.items()}
BUILT = [  # what settings build: chosen by a _target_, so imported by no stage
    "tsgb.methods.tsgb", "tsgb.methods.product", "pipeline.masks.refine", "pipeline.masks.walk",
    "pipeline.masks.par", "pipeline.tasks.losses",
]  # fmt: skip
ENTRIES = [*WORK.values(), *BUILT]

# Run in a process of its own: notes which module asks for which while everything is imported, the
# engines of the dense CRF by being used.
WATCH = """
import builtins, importlib, json, sys

edges, real = {}, builtins.__import__

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    module = real(name, globals, locals, fromlist, level)
    importer = (globals or {}).get("__name__", "")
    found = edges.setdefault(importer, set())
    found.add(name)
    found |= {f"{name}.{part}" for part in fromlist or ()}
    return module

builtins.__import__ = watched
for entry in sys.argv[1:]:
    importlib.import_module(entry)
import numpy as np
from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian
for engine in ("numba", "torch"):
    crf = DenseCRF([Gaussian(3, 1), Bilateral(3, 3, 1)], iterations=1, engine=engine)
    crf(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.float32))
files = {n for n, m in sys.modules.items() if getattr(m, "__file__", None)}
json.dump({k: sorted(v & files) for k, v in edges.items() if k in files}, sys.stdout)
"""


@pytest.fixture(scope="module")
def edges():
    """Modules of the project by the module that imported them at run time."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *ENTRIES],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    ours = ("pipeline.", "tsgb.")
    return {
        name: [n for n in imported if n.startswith(ours)]
        for name, imported in found.items()
        if name.startswith(ours)
    }


def imported_by(entry, edges):
    """Every module that was imported on the way from an entry, itself too."""
    found, waiting = set(), [entry]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += edges.get(name, [])
    return found


def altered(source):
    """The source with its first number, or else its first name of a value, changed."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value += 1
            return ast.unparse(tree)
    return source + "\nALTERED = 1\n"


def versions(monkeypatch, changes):
    """The code version of every entry where these modules have another source."""
    unchanged, real = fingerprint._code, fingerprint.source_of

    def code(module):
        return unchanged.__wrapped__(module) if module in changes else unchanged(module)

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "source_of", lambda name: changes.get(name) or real(name))
        patch.setattr(fingerprint, "_code", code)
        return {entry: code_version.__wrapped__(entry) for entry in ENTRIES}


def test_a_constant_changed_in_any_module_that_is_imported_moves_the_fingerprint(
    edges, monkeypatch
):
    before = versions(monkeypatch, {})
    reached = {entry: imported_by(entry, edges) for entry in ENTRIES}
    for module in sorted(set().union(*reached.values())):
        if module.startswith("pipeline.base"):
            continue
        after = versions(monkeypatch, {module: altered(fingerprint.source_of(module))})
        for entry in ENTRIES:
            if module in reached[entry]:
                assert after[entry] != before[entry], f"{module} does not count for {entry}"


def test_modules_that_are_not_imported_do_not_count(edges):
    for entry in ENTRIES:
        assert set(reached_modules(entry)) <= imported_by(entry, edges)


def test_the_engines_of_the_dense_crf_count():
    reached = set(reached_modules("pipeline.masks.refine"))

    engines = {f"pipeline.masks.crf.{path.stem}" for path in
               (ROOT / "pipeline" / "masks" / "crf").glob("*.py")}  # fmt: skip
    assert engines - {"pipeline.masks.crf.__init__"} <= reached


def test_no_stage_counts_the_work_of_another():
    for name, module in WORK.items():
        assert set(reached_modules(module)) & set(WORK.values()) == {module}, name


def test_what_cannot_change_a_result_does_not_count():
    for entry in ENTRIES:
        rooms = {".".join(name.split(".")[:2]) for name in reached_modules(entry)}
        assert not rooms & {"pipeline.base", "pipeline.report", "pipeline.run", "pipeline.commands"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("pipeline.base.said", '".*available but not used.*"', '".*another warning.*"'),
        ("pipeline.base.terminal", '"Files in"', '"Files of"'),
        ("pipeline.masks.seed", "at the size of the image.", "of the size of the image."),
        ("pipeline.stages.pseudo_labels", 'progress("pseudo-labels"', 'progress("masks"'),
        ("pipeline.stages.saliency", '"""Write one file', '"""Writes one file'),
        ("pipeline.stages.failures", "images failed; the other", "images failed, the other"),
        ("pipeline.masks.crf.compilation", "compiling the dense CRF, once", "compiling, once"),
    ],
)  # fmt: skip
def test_words_for_people_move_nothing(module, old, new, monkeypatch):
    source = fingerprint.source_of(module)
    assert old in source

    assert versions(monkeypatch, {module: source.replace(old, new)}) == versions(monkeypatch, {})


def test_the_code_of_a_stage_is_that_of_the_module_which_does_its_work():
    for stage in STAGES.values():
        assert f"from {stage.module} import work" in inspect.getsource(stage.work)
        if stage.score is not None:
            assert f"from {stage.score.module} import" in inspect.getsource(stage.score.work)


def test_a_module_counts_that_is_imported_inside_a_function_only():
    tree = ast.parse(fingerprint.source_of("pipeline.stages.corrected"))
    at_the_top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}

    assert "pipeline.tasks.segmenter" not in at_the_top
    assert "pipeline.tasks.segmenter" in reached_modules("pipeline.stages.corrected")


def test_own_modules_are_imported_by_statements_only():
    """A computed name would hide an import from the fingerprint."""
    for package in ("pipeline", "tsgb"):
        for path in (ROOT / package).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text()))
                     if isinstance(node, ast.Call)]  # fmt: skip
            names = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
            if path.name not in ("_optional.py",):  # other people's packages
                assert not names & {"import_module", "__import__"}, path
