import pytest
import torch

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["numba", "torch", pytest.param("cuda", marks=NEEDS_CUDA)])
def engine(request):
    """Every engine of the dense CRF in turn."""
    return request.param
