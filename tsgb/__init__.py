"""Saliency maps for convolutional networks: which pixels speak for a class.

Example:
    >>> import torch, tsgb
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)).eval()
    >>> tsgb.TSGB(model, kappa=0.5).attribute(torch.rand(1, 3, 8, 8), torch.tensor([3])).shape
    torch.Size([1, 1, 8, 8])
"""

from tsgb._version import __version__ as __version__
from tsgb.errors import LayerError as LayerError
from tsgb.errors import NonFiniteError as NonFiniteError
from tsgb.errors import ShapeError as ShapeError
from tsgb.errors import TargetError as TargetError
from tsgb.errors import TSGBError as TSGBError
from tsgb.errors import UnsupportedModelError as UnsupportedModelError
from tsgb.method import Method as Method
from tsgb.methods.cam import CAM as CAM
from tsgb.methods.grad_cam import GradCAM as GradCAM
from tsgb.methods.tsgb import TSGB as TSGB
