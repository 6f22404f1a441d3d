"""Guided backprop and the deconvnet, which differ by one mask."""

from tsgb._rules.guided import DECONVNET, GUIDED
from tsgb.facts import Facts
from tsgb.methods.gradient import LargestGradient


class GuidedBackprop(LargestGradient):
    """Largest absolute gradient over channels; a ReLU passes positive gradients of active units.

    The map is sharp, and known to depend little on the class. The paper has a rule for ReLU only. A
    ReLU that is clipped from above (ReLU6) counts as active where its own gradient is not zero,
    between 0 and the bound. Every other non-linearity (SiLU, sigmoid gates, leaky ReLU,
    normalisation by the image's own statistics) is refused.

    Args:
        model: Classifier of convolutions, batch norms, ReLUs, pooling and linear layers that
            returns logits.
        layer: Module to read the gradient at; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name.

    References:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR Workshop
        2015 (section 3.4, figure 1).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),
        ...     torch.nn.Flatten(), torch.nn.Linear(144, 5)).eval()
        >>> GuidedBackprop(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 8, 8])
    """

    facts = Facts("guided_backprop", "Springenberg, ICLRW 2015", networks="ReLU")

    _rule_set = GUIDED


class Deconvnet(LargestGradient):
    """Largest absolute gradient over channels; a ReLU passes positive gradients of all units.

    A ReLU rectifies what comes back instead of masking it by its input, so a unit that is silent,
    or clipped from above (ReLU6), passes as well. Max pooling sends back to where the maximum was.
    Non-linearities other than ReLU are refused.

    Args:
        model: Classifier of convolutions, batch norms, ReLUs, pooling and linear layers that
            returns logits.
        layer: Module to read the gradient at; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name.

    References:
        Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014
        (section 2.1).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),
        ...     torch.nn.Flatten(), torch.nn.Linear(144, 5)).eval()
        >>> Deconvnet(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 8, 8])
    """

    facts = Facts("deconvnet", "Zeiler & Fergus, ECCV 2014", networks="ReLU")

    _rule_set = DECONVNET
