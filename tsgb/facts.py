"""Facts about a saliency method that are known without running it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
