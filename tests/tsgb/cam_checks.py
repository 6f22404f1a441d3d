"""What the tests of the CAM family share."""

import torch
from torch import nn


def flat_net(size=480, *, shift=0.0):
    """Conv - ReLU in place - linear: another gradient at every position, ``shift`` on average."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(size, 5))
    layers[3].weight.data += shift
    return nn.Sequential(*layers).eval()


def explained(method, activation, gradient, **options):
    """The map of an activation [C, h, w] whose logit has the given gradient."""
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(len(gradient.flatten()), 1)).eval()
    net[2].weight.data = gradient.reshape(1, -1)
    return method(net, layer="0", **options).attribute(activation[None], torch.tensor([0]))[0, 0]


def not_in_place(net):
    """The network with every ReLU out of place, for libraries that read what it overwrites."""
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


ACTIVATION = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[-1.0, 1.0], [3.0, 0.0]]])
GRADIENT = torch.tensor([[[4.0, -1.0], [0.5, 0.0]], [[2.0, 1.0], [1.0, -5.0]]])
"""Of two channels; the gradients have the means 7/8 and -1/4."""
