"""The interface of pydensecrf on top of this package's CRF, for existing scripts.

Prefix the imports with ``pipeline.masks.``: ``import pipeline.masks.pydensecrf.densecrf as dcrf``
and ``from pipeline.masks.pydensecrf.utils import unary_from_softmax``. All names are also here,
for ``from pipeline.masks import pydensecrf as dcrf``. Arguments and results are those of
pydensecrf, except that

* results are plain NumPy arrays;
* inputs may be read-only, not contiguous, or of another float type;
* wrong sizes, labels and features are errors, even where pydensecrf reads out of bounds;
* learning is refused.

References:
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011. pydensecrf is Lucas Beyer's wrapper of the authors' program.
"""

from pipeline.masks.crf.normalization import NormalizationType
from pipeline.masks.pydensecrf.densecrf import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    DenseCRF,
    DenseCRF2D,
    KernelType,
)
from pipeline.masks.pydensecrf.utils import (
    compute_unary,
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    softmax_to_unary,
    unary_from_labels,
    unary_from_softmax,
)

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "NormalizationType",
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]
