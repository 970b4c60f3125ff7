"""What a run computes: model, optimiser, batches, the training step and the shapes of its state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from elmo_jax.data.batches import Batches
from elmo_jax.model.bilm import BiLM, compute_dtype, smallest_inputs, zero_carry
from elmo_jax.parallel import DataParallel
from elmo_jax.train import optim
from elmo_jax.train.evaluate import Evaluator
from elmo_jax.train.inputs import Inputs
from elmo_jax.train.step import STATE_SPECS, TrainState, make_train_step


class Program:
    """Everything that follows from what a run reads and the devices it has; nothing here is computed or written yet.

    Args:
        inputs: of the run.
        devices: that share its rows.

    Attributes:
        model: the network.
        optimizer: with its schedule over the steps of the run.
        evaluator: of held-out text.
        batches: of the training text; those of this process.
    """

    def __init__(self, inputs: Inputs, devices: DataParallel) -> None:
        config = inputs.config
        self.inputs, self.devices, self._config = inputs, devices, config
        dtype, again = compute_dtype(config.model), config.train.recompute_gates
        self.model = BiLM(config.model, inputs.clusters, dtype, recompute_gates=again)
        self.optimizer = optim.make_optimizer(config.optimizer, inputs.n_steps)
        self.evaluator = Evaluator(self.model, config, inputs.vocabulary, devices)
        self.batches = self._batches()

    def train_step(self) -> Callable[..., Any]:
        """The training step of one device's share, for ``DataParallel.wrap`` with ``STATE_SPECS``."""
        train, optimizer = self._config.train, self._config.optimizer
        return make_train_step(
            self.model,
            self.optimizer,
            loss_scale=optimizer.loss_scale or float(train.unroll_steps),
            seed=train.seed,
            parts=train.gradient_accumulation,
            ema_decay=optimizer.ema_decay,
        )

    def initial_state(self) -> TrainState:
        """The state before the first step, in the global layout; to be jitted."""
        config = self._config
        key = jax.random.key(config.train.seed)
        params = self.model.init(key, *smallest_inputs(config.model), method="everything")["params"]
        carry = zero_carry(config.model, config.train.batch_size)
        average = None if config.optimizer.ema_decay is None else jax.tree.map(jnp.zeros_like, params)
        return TrainState(jnp.int32(0), params, self.optimizer.init(params), carry, average)

    def state_like(self) -> TrainState:
        """Shapes, dtypes and shardings of the state in the global layout, without computing or allocating it."""
        like: TrainState = jax.eval_shape(self.initial_state)
        places = self.devices.shardings(like, STATE_SPECS)
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like, places)

    def _batches(self) -> Batches:
        train, model, corpus = self._config.train, self._config.model, self.inputs.corpus
        rows = self.inputs.rows(self.devices.rows(train.batch_size, train.gradient_accumulation))
        parts = len(self.devices.local_devices) * train.gradient_accumulation
        word_ids = corpus.word_ids(self.inputs.vocabulary)
        shape = parts, model.token_width, train.unroll_steps, len(model.directions)
        return Batches(rows, corpus, word_ids, *shape)
