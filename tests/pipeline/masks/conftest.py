import pytest


@pytest.fixture(params=["numba", "torch", pytest.param("cuda", marks=pytest.mark.gpu)])
def engine(request):
    """Every engine of the dense CRF in turn."""
    return request.param
