"""Fingerprint of the code that can change a result.

A result depends on the module that makes it and on every module of this project that is imported
from there, at the top of a file or inside a function. Imports are read from the source, so the
project imports its own modules by ``import`` statements and ``_target_`` settings only; a test
checks that. What cannot change a result does not count: the package ``pipeline.base``, comments,
docstrings, imports for type checkers, and words for people (what is raised, warned, logged or shown
on the terminal).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.base.files import fingerprint

_PROJECT = ("tsgb", "pipeline")  # packages whose code counts
_ROOT = Path(__file__).parents[2]  # both lie side by side
_PLUMBING = "pipeline.base"  # but this one cannot change a result
_SPEAKERS = {"logging", "_log", "terminal", "warnings"}  # their calls say something, no more


@cache
def code_version(module: str) -> str:
    """Fingerprint of a module and of every module that it reaches.

    Args:
        module: Dotted name, for example ``pipeline.stages.classifier``.
    """
    return fingerprint({name: _code(name) for name in reached_modules(module)})


def reached_modules(module: str) -> list[str]:
    """The module and all modules of the project that it imports, directly or not, sorted.

    Example:
        >>> reached_modules("pipeline.data.palette")
        ['pipeline.data.palette']
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and _counts(name):
            found.add(name)
            waiting += _imports(name)
    return sorted(found)


def _counts(name: str) -> bool:
    plumbing = name == _PLUMBING or name.startswith(f"{_PLUMBING}.")
    return name.split(".")[0] in _PROJECT and not plumbing


@cache
def _code(module: str) -> str:
    """Fingerprint of the module's code without what cannot change a result."""
    return fingerprint(ast.dump(_Behaviour().visit(ast.parse(source_of(module)))))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the project that a module imports, wherever in its code."""
    names: set[str] = set()
    for node in ast.walk(_Behaviour().visit(ast.parse(source_of(module)))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(sorted(name for name in names if _counts(name) and _origin(name)))


def source_of(module: str) -> str:
    """The text of a module's file."""
    origin = _origin(module)
    return origin.read_text(encoding="utf-8") if origin else ""


@cache
def _origin(name: str) -> Path | None:
    """The file of a module; None if there is no module of that name.

    Nothing is imported: the libraries of networks take seconds.
    """
    place = _ROOT.joinpath(*name.split("."))
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in files if path.is_file()), None)


class _Behaviour(ast.NodeTransformer):
    """Removes docstrings, imports for type checkers, and words for people."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not _is_text(n)]  # type: ignore[attr-defined]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Keep what is not for type checkers only."""
        self.generic_visit(node)
        names = {getattr(node.test, "id", ""), getattr(node.test, "attr", "")}
        return node.orelse if "TYPE_CHECKING" in names else node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        """Keep the kind of error, which may be caught, without its message."""
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Drop what is said."""
        self.generic_visit(node)
        if _SPEAKERS & set(_names(node.func)):
            node.args, node.keywords = [], []
        return node


def _names(node: ast.AST) -> Iterator[str]:
    """The parts of a dotted name."""
    while isinstance(node, ast.Attribute):
        yield node.attr
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
