"""What ``import tsgb`` offers; torch comes with it."""

from tsgb.errors import LayerError as LayerError
from tsgb.errors import NonFiniteError as NonFiniteError
from tsgb.errors import ShapeError as ShapeError
from tsgb.errors import TargetError as TargetError
from tsgb.errors import TSGBError as TSGBError
from tsgb.errors import UnsupportedModelError as UnsupportedModelError
from tsgb.method import Method as Method
from tsgb.methods.cam import CAM as CAM
from tsgb.methods.excitation_backprop import (
    ContrastiveExcitationBackprop as ContrastiveExcitationBackprop,
)
from tsgb.methods.excitation_backprop import ExcitationBackprop as ExcitationBackprop
from tsgb.methods.ggm import GGM as GGM
from tsgb.methods.grad_cam import GradCAM as GradCAM
from tsgb.methods.grad_cam_plus_plus import GradCAMPlusPlus as GradCAMPlusPlus
from tsgb.methods.gradient import Gradient as Gradient
from tsgb.methods.gradient import InputXGradient as InputXGradient
from tsgb.methods.gradual_extrapolation import GradualExtrapolation as GradualExtrapolation
from tsgb.methods.gradual_extrapolation import extrapolate as extrapolate
from tsgb.methods.guided_backprop import Deconvnet as Deconvnet
from tsgb.methods.guided_backprop import GuidedBackprop as GuidedBackprop
from tsgb.methods.hires_cam import HiResCAM as HiResCAM
from tsgb.methods.integrated_gradients import IntegratedGradients as IntegratedGradients
from tsgb.methods.layer_cam import LayerCAM as LayerCAM
from tsgb.methods.pane import PANE as PANE
from tsgb.methods.product import Product as Product
from tsgb.methods.smooth_grad import SmoothGrad as SmoothGrad
from tsgb.methods.tsgb import TSGB as TSGB
from tsgb.region import RegionLogits as RegionLogits
