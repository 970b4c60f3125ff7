"""Memory that was freed is used again without new pages."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from elmo_jax.allocator import keep_memory

if "keep" in sys.argv:
    print(keep_memory(reserve=1 << 29), end=" ")

def use():
    np.ones(50_000_000, np.uint8)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux with glibc alone")
def test_pages_are_had_once_whatever_the_thread():
    def run(*arguments):
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    kept, faults = run("keep")
    assert kept == "True"
    assert int(faults) < 200
    # Without it every page is new each time: 2 x 50 MB in pages of 4 kB, or of 2 MB where those are given unasked.
    (faults,) = run()
    assert int(faults) > 40
