"""Saliency maps for convolutional networks: which pixels speak for a class.

Example:
    >>> import torch, tsgb
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)).eval()
    >>> tsgb.TSGB(model, kappa=0.5).attribute(torch.rand(1, 3, 8, 8), torch.tensor([3])).shape
    torch.Size([1, 1, 8, 8])
"""

from typing import TYPE_CHECKING, Any

from tsgb._version import __version__ as __version__

if TYPE_CHECKING:
    from tsgb._exports import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import the methods once one is asked for: torch takes seconds, which help can do without."""
    import tsgb._exports as exports

    if name in vars(exports) and not name.startswith("_"):
        return getattr(exports, name)
    if name in globals():  # a module of the package, which these imports have loaded
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What tab completion offers."""
    import tsgb._exports as exports

    return sorted({*globals(), *(name for name in vars(exports) if not name.startswith("_"))})
