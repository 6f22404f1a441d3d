"""The names of pydensecrf over the CRF of this package: an existing script changes its imports.

Put ``pipeline.masks.`` in front: ``import pipeline.masks.pydensecrf.densecrf as dcrf`` and
``from pipeline.masks.pydensecrf.utils import unary_from_softmax``. Everything is also here, for
``from pipeline.masks import pydensecrf as dcrf``. Arguments, their order and the results are those
of pydensecrf, except that

* results are plain NumPy arrays, which everything that reads a result of pydensecrf takes too;
* inputs may be read-only, not contiguous, or of another float type;
* sizes, labels and features that do not fit are errors, also where pydensecrf reads past them;
* learning and normalisations other than NORMALIZE_SYMMETRIC (the default there) are refused.

References:
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011. pydensecrf is Lucas Beyer's wrapper of the authors' program.
"""

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
    NormalizationType,
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
