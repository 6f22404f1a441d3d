"""The table of TSGB: every operation hands on as much relevance as it receives.

A rule computes the operation as it is and replaces its gradient. With ``x`` the input, ``y`` the
output and ``g_y`` the modified gradient that arrives, the *relevance* is ``y * g_y`` on the way in
and ``x * g_x`` on the way out; every rule gives out as much as it takes in, except where nothing
but exact zeros could carry it. Autograd does the rest: views, concatenations, reused modules,
residual additions.

What does not depend on the class (``1 / z`` of a convolution, ``y / x`` of a batch norm) is worked
out in the first backward sweep and kept, so that further classes cost elementwise work only.
"""

from collections.abc import Container
from functools import partial
from typing import Literal

import torch

from tsgb._rules.classifier import linear
from tsgb._rules.convolution import Grouped, conv2d
from tsgb._rules.elementwise import (
    ELEMENTWISE,
    GATES,
    clips,
    proportional_addition,
    published_batch_norm,
)
from tsgb._rules.pooling import avg_pool2d, max_pool2d
from tsgb._rules.rule_set import GUARDS, STRUCTURAL, RuleSet

Saturation = Literal["conserve", "plain"]
Skip = Literal["plain", "proportional"]
BatchNormEps = Literal["module", "published"]


def tsgb_rules(
    saturation: Saturation = "conserve",
    grouped: Grouped = "per_group",
    skip: Skip = "plain",
    batchnorm_eps: BatchNormEps = "module",
    heads: Container[torch.Size] | None = None,
) -> RuleSet:
    """The rules of TSGB.

    Args:
        saturation: See :class:`tsgb.TSGB`.
        grouped: See :class:`tsgb.TSGB`.
        skip: See :class:`tsgb.TSGB`.
        batchnorm_eps: See :class:`tsgb.TSGB`.
        heads: Shapes of the weights of convolutions that may be the classifier, which keep more
            than others do. None: all of them.
    """
    rules = {**GUARDS, **ELEMENTWISE, **clips(conserve=saturation == "conserve")}
    rules |= {"linear": linear, "avg_pool2d": avg_pool2d, "max_pool2d": max_pool2d}
    rules["conv2d"] = partial(conv2d, grouped=grouped, heads=heads)
    below = dict(GUARDS)
    if skip == "proportional":
        rules["add"] = proportional_addition
    if batchnorm_eps == "published":
        rules["batch_norm"] = below["batch_norm"] = published_batch_norm
    return RuleSet(
        rules,
        STRUCTURAL,
        below=below,
        gates=GATES,
        needs_head=True,
        ports=True,
        vmappable=True,
        fallback=None
        if heads is None
        else tsgb_rules(saturation, grouped, skip, batchnorm_eps, heads=None),
    )
