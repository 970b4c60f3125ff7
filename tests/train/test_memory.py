"""Memory is counted as the compiler plans it, and too little of it is one line with a remedy."""

import jax
import jax.numpy as jnp
import pytest

from elmo_jax.config import Train
from elmo_jax.errors import UserError
from elmo_jax.train import memory


def test_a_program_takes_its_arguments_its_results_and_what_it_works_with():
    # A sorted copy is needed before anything of the result is known.
    plain = memory.usage(jax.jit(lambda x: jnp.sort(x)[::-1] + x).lower(jnp.zeros(1000)).compile())
    assert (plain.arguments, plain.results) == (4000, 4000)
    assert plain.working >= 4000
    assert plain.total == plain.arguments + plain.results + plain.working + plain.code
    donated = memory.usage(jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(1000)).compile())
    assert (donated.arguments, donated.results) == (4000, 0)


def test_bytes_of_a_tree_are_those_of_its_arrays():
    tree = {"a": jnp.zeros((3, 4)), "b": [jax.ShapeDtypeStruct((5,), jnp.uint16)]}
    assert memory.tree_bytes(tree) == 3 * 4 * 4 + 5 * 2


def test_the_memory_of_the_machine_is_shared_by_the_devices_that_are_parts_of_it():
    machine = memory.host_memory()
    assert 2**28 < machine < 2**50
    assert memory.available(jax.devices()[0], 8) == machine // 8


def test_the_limit_of_an_accelerator_is_its_own():
    class Accelerator:
        platform = "gpu"

        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert memory.available(Accelerator({"bytes_limit": 60}), 8) == 60
    assert memory.available(Accelerator(None), 8) is None


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (12_378_174_064, "12.4 GB"), (5e15, "5,000 TB")]
)
def test_bytes_for_people(n_bytes, text):
    assert memory.size(n_bytes) == text


@pytest.mark.parametrize(
    ("rows", "parts", "devices", "more"), [(128, 1, 1, 2), (128, 2, 8, 4), (96, 3, 8, 4), (8, 1, 8, None)]
)
def test_the_remedy_is_a_division_that_is_possible(rows, parts, devices, more):
    said = memory.remedy(Train(batch_size=rows, gradient_accumulation=parts), devices)
    assert f"lower --config.train.batch_size (it is {rows})" in said
    assert ("gradient_accumulation" in said) == (more is not None)
    assert "--config.train.recompute_gates=true" in said
    assert "recompute_gates" not in memory.remedy(Train(batch_size=rows, recompute_gates=True), devices)
    if more:
        assert f"--config.train.gradient_accumulation={more};" in said
        assert rows % (more * devices) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying\nto allocate 64 bytes."),
            "out of memory: Out of memory while trying to allocate 64 bytes.; buy more",
        ),
        (MemoryError(), "out of memory: no more of it on this machine; buy more"),
    ],
)
def test_running_out_is_one_line_with_the_remedy(error, said):
    with pytest.raises(UserError) as raised, memory.shortage_is_told("buy more"):
        raise error
    assert str(raised.value) == said


def test_other_errors_of_devices_are_left_alone():
    with pytest.raises(jax.errors.JaxRuntimeError), memory.shortage_is_told("buy more"):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")
