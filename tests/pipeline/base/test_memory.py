"""Freed memory is used again, not asked of the system anew."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Prints how many of ten large arrays' pages the system had to clear, as a share.
SHARE = """
import resource, sys
import numpy as np
from pipeline.base.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
before = faults()
for _ in range(10):
    np.ones(2**23)
print((faults() - before) * resource.getpagesize() / (10 * 8 * 2**23))
"""


def share(word):
    done = subprocess.run(
        [sys.executable, "-c", SHARE, word], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is a library of Linux")
def test_the_pages_of_a_freed_array_serve_the_next_one():
    assert share("keep") < 0.1 * share("leave")
