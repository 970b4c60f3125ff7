"""SIGTERM and Ctrl-C: the first is noted, the second acts as usual, and afterwards everything is as it was."""

import signal
import threading

import pytest

from elmo_jax.train.interruption import Interruption

BOTH = pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


class Usual(BaseException):
    """What the handlers of these tests do "as usual"."""


def usual(number, frame):
    raise Usual(number)


@pytest.fixture(autouse=True)
def usual_handlers():
    before = {number: signal.signal(number, usual) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def receive(interruption, *numbers):
    with interruption:
        for number in numbers:
            signal.raise_signal(number)


def handlers():
    return [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]


def test_without_a_signal_nothing_is_requested():
    with Interruption() as interruption:
        assert not interruption.requested
    assert interruption.exit_status == 0
    assert handlers() == [usual, usual]


@BOTH
def test_the_first_signal_is_only_noted(number, status):
    with Interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.requested
        assert interruption.signal == number
        assert interruption.exit_status == status
    assert interruption.exit_status == status
    assert handlers() == [usual, usual]


@BOTH
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_acts_as_usual(number, status, second):
    interruption = Interruption()
    with pytest.raises(Usual) as raised:
        receive(interruption, number, second)
    assert raised.value.args == (second,)
    assert interruption.exit_status == status
    assert handlers() == [usual, usual]


def test_a_second_ctrl_c_is_a_keyboard_interrupt():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        receive(Interruption(), signal.SIGINT, signal.SIGINT)
    assert handlers() == [usual, signal.default_int_handler]


@BOTH
def test_after_an_error_the_handlers_are_back(number, status):
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError
    with pytest.raises(Usual):
        signal.raise_signal(number)


@BOTH
def test_an_ignored_signal_is_ignored_again(number, status):
    signal.signal(number, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert interruption.exit_status == status
    assert signal.getsignal(number) is signal.SIG_IGN


def test_in_another_thread_signals_are_left_alone():
    before = handlers()
    seen = []

    def work() -> None:
        with Interruption() as interruption:
            seen.append((handlers(), interruption.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
