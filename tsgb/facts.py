"""Facts about a saliency method that are known without running it, or even importing it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

ReadOut: TypeAlias = Literal["image", "last map", "first pool", "its base's", "the finer of two"]
Networks: TypeAlias = Literal["any", "CNN", "ReLU", "ReLU, one head", "GAP", "its base's"]


@dataclass(frozen=True)
class Facts:
    """Class attribute of every method; the index, the command and the contract tests read it.

    Attributes:
        name: Name on the command line, and of the file in ``configs/saliency``.
        paper: First author, venue and year; empty for a method without a paper.
        read_out: Where the map is read unless a layer is named. "last map" is the last feature map
            that is not the output of a pooling layer; "first pool" is the input of the first
            max-pool or strided convolution.
        cost: Forward passes + backward sweeps for K classes.
        signed: Whether maps have negative values with the default options; None if that depends on
            the method inside.
        networks: Networks that the method can explain; ``docs/methods.md`` defines the words.
        one_pass: Whether a call runs the model once. If not, ``cost`` says how often.
    """

    name: str
    paper: str = ""
    read_out: ReadOut = "image"
    cost: str = "1 + K"
    signed: bool | None = False
    networks: Networks = "any"
    one_pass: bool = True


class Written(NamedTuple):
    """A method as its source describes it.

    Attributes:
        class_name: Name of the class.
        facts: Its facts.
        about: First line of its documentation.
    """

    class_name: str
    facts: Facts
    about: str


def written_facts() -> list[Written]:
    """What the sources say of the exported methods: to import them takes the seconds of torch.

    Example:
        >>> [method.facts.name for method in written_facts()][:2]
        ['cam', 'contrastive_excitation_backprop']
    """
    package = Path(__file__).parent
    found = []
    for statement in ast.parse((package / "_exports.py").read_text("utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            path = package.parent.joinpath(*statement.module.split(".")).with_suffix(".py")
            exported = {alias.name for alias in statement.names}
            found += [written for written in _written_in(path) if written.class_name in exported]
    return found


def _written_in(path: Path) -> Iterator[Written]:
    """The classes of a module that state facts, which are literals."""
    classes = (n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ClassDef))
    for node in classes:
        about = (ast.get_docstring(node) or "").partition("\n")[0]
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name("facts")], value=ast.Call() as call):
                    values = [ast.literal_eval(argument) for argument in call.args]
                    named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
                    yield Written(node.name, Facts(*values, **named), about)
