import itertools
import subprocess
import sys
import threading
import time

import pytest

from elmo_jax.data.prefetch import prefetch


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("n", [0, 1, 100])
def test_everything_comes_in_order_and_the_thread_ends(depth, n):
    assert list(prefetch(iter(range(n)), depth)) == list(range(n))
    assert not workers()


def test_an_error_comes_after_the_items_before_it():
    def failing():
        yield 1
        raise ValueError("broken")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)
    assert not workers()


def test_it_works_ahead_but_not_further_than_its_depth():
    made = []
    items = prefetch((made.append(i) or i for i in itertools.count()), depth=3)
    next(items)
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # the one taken and three ahead
    items.close()


def test_closing_ends_the_thread_and_the_iterator():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    items = prefetch(endless())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert closed.is_set()
    assert not workers()


def test_dropping_ends_the_thread():
    for _ in prefetch(itertools.count()):
        break
    assert not workers()


def test_an_unfinished_prefetch_does_not_hold_up_the_end_of_the_program():
    program = (
        "import itertools; from elmo_jax.data.prefetch import prefetch\n"
        "items = prefetch(itertools.count()); next(items); cycle = [items]; cycle.append(cycle)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
