"""The formats that a network is exported to."""

from enum import StrEnum


class Format(StrEnum):
    """A format and the suffix of its files.

    Example:
        >>> Format("torchscript").suffix
        '.pt'
    """

    onnx = "onnx"
    safetensors = "safetensors"
    torchscript = "torchscript"

    @property
    def suffix(self) -> str:
        """The suffix of a file of this format."""
        return ".pt" if self is Format.torchscript else f".{self}"
