"""Memory that was freed is used again without new pages, and pages are large."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux with glibc alone")

FAULTS = """
import resource, sys
import numpy as np
from elmo_jax.allocator import keep_memory

if "keep" in sys.argv:
    print(keep_memory(), end=" ")

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""

RESTARTED = """
import os, sys, threading
import numpy as np
from elmo_jax.allocator import use_huge_pages

print(os.getpid(), flush=True)
use_huge_pages()
print(*sys.argv[1:], os.environ["GLIBC_TUNABLES"])

def large():
    keep = np.ones(50_000_000, np.uint8)
    rollup = open("/proc/self/smaps_rollup").read().split()
    print(rollup[rollup.index("AnonHugePages:") + 1])

thread = threading.Thread(target=large)
thread.start()
thread.join()
"""


def run(program: str, *arguments: str, tunables: str = "") -> list[str]:
    environment = {**os.environ, "GLIBC_TUNABLES": tunables}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split("\n")[:-1]


def test_pages_are_had_once():
    kept, faults = run(FAULTS, "keep")[0].split()
    assert kept == "True"
    assert int(faults) < 200
    # Without it every page is new each time: 50 MB in pages of 4 kB, or of 2 MB where those are given unasked.
    assert int(run(FAULTS)[0]) > 20


@pytest.mark.skipif(not ENABLED.exists() or "[never]" in ENABLED.read_text(), reason="the system has no huge pages")
def test_the_program_starts_once_more_in_its_process_and_has_huge_pages_in_all_threads():
    before, after, *rest = run(RESTARTED, "some", "words")
    assert before == after
    assert rest[0] == "some words glibc.malloc.hugetlb=1"
    assert int(rest[1]) > 30_000


def test_a_choice_of_huge_pages_is_left_alone_and_other_tunables_stay():
    _, *rest = run(RESTARTED, tunables="glibc.malloc.hugetlb=0")
    assert rest[0] == "glibc.malloc.hugetlb=0"
    _, _, *rest = run(RESTARTED, tunables="glibc.malloc.perturb=0")
    assert rest[0] == "glibc.malloc.perturb=0:glibc.malloc.hugetlb=1"
