"""What a run computes follows its configuration."""

from elmo_jax.parallel import DataParallel
from elmo_jax.train.inputs import gather
from elmo_jax.train.program import Program
from tests.train.small import config


def test_gates_are_computed_again_in_a_run_that_says_so(tmp_path):
    for again in (False, True):
        inputs = gather(config(tmp_path, train={"recompute_gates": again}), progress=False)
        assert Program(inputs, DataParallel("shard_map")).model.recompute_gates == again
