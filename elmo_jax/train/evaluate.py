"""Perplexity on held-out text, with the full normalised distribution and every token counted."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from elmo_jax import config as configuration
from elmo_jax.data.batches import Batches, prefetch
from elmo_jax.data.corpus import Corpus
from elmo_jax.data.streams import Rows
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.model.bilm import BiLM, zero_carry
from elmo_jax.parallel import BY_ROWS, REPLICATED, DataParallel
from elmo_jax.telemetry import Progress, safe_exp
from elmo_jax.train.step import EVAL_SPECS, EvalState, make_eval_step

# Rows of a stateless evaluation, where their number does not matter to the result.
STATELESS_ROWS = 32
# Steps whose sums are fetched while later ones run: the device never waits for Python.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Perplexity:
    """Sums of an evaluation.

    Attributes:
        nll: negative log-likelihood of all predictions of each direction, in nats: ``{"forward": ...}`` and, if the
            model is bidirectional, ``"backward"``.
        count: predictions in each direction: words and one boundary a sentence.
        oov: how many of the words are not in the vocabulary and were scored as ``<UNK>``.
        words: words, without boundaries.
        streams: rows of a carried evaluation, 0 for a stateless one.
    """

    nll: dict[str, float]
    count: int
    oov: int
    words: int
    streams: int

    @property
    def by_direction(self) -> dict[str, float]:
        """Perplexity of each direction."""
        return {direction: safe_exp(nll / self.count) for direction, nll in self.nll.items()}

    @property
    def average(self) -> float:
        """Geometric mean of the directions, as published (ELMO_SPEC 2.12)."""
        return safe_exp(sum(self.nll.values()) / (len(self.nll) * self.count))

    @property
    def oov_rate(self) -> float:
        """Share of words that are not in the vocabulary."""
        return self.oov / max(1, self.words)

    @property
    def kind(self) -> str:
        """How the LSTM state was treated, for people."""
        return f"carried over {self.streams} streams" if self.streams else "stateless"

    def as_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "perplexity": self.average,
            **{f"perplexity_{direction}": value for direction, value in self.by_direction.items()},
            "state": "carried" if self.streams else "stateless",
            "streams": self.streams,
            "predictions": self.count,
            "words": self.words,
            "oov": self.oov,
            "oov_rate": self.oov_rate,
        }


class Evaluator:
    """Measures perplexity; compiles once for all calls.

    Args:
        model: the network.
        config: of the run.
        vocabulary: of the run.
        devices: to share the rows.

    Raises:
        UserError: for a model of ELMoForManyLangs: encoded text is not spelt by its dictionaries.
    """

    def __init__(
        self, model: BiLM, config: configuration.Config, vocabulary: Vocabulary, devices: DataParallel
    ) -> None:
        if config.model.input == "words+characters":
            raise UserError("perplexity is not for models of ELMoForManyLangs, which give vectors; name another model")
        self._config, self._vocabulary = config, vocabulary
        # Evaluation has one spelling of data parallelism, whatever training uses.
        self._devices = DataParallel("shard_map", devices.devices)
        self._step = self._devices.wrap(make_eval_step(model), EVAL_SPECS, outputs=(BY_ROWS, REPLICATED), donate=False)

    def __call__(self, params: Any, corpus: Corpus, *, streams: int, progress: bool = False) -> Perplexity:
        """Score all of a corpus.

        Args:
            params: global parameter tree.
            corpus: text.
            streams: rows of a carried evaluation: each reads every ``streams``-th sentence with its LSTM state
                flowing on. 0 is stateless: the state is reset at every sentence, and the result depends on no batch
                size.
            progress: show a bar.

        Returns:
            The sums; the same for any number of devices up to rounding.
        """
        # Once for all steps: arrays of the host would be copied to every device at each.
        params = jax.device_put(params, self._devices.sharding(REPLICATED))
        word_ids = corpus.word_ids(self._vocabulary)
        n_rows, batches = self._batches(corpus, word_ids, streams)
        # Every process takes the same number of steps, whenever its own rows end.
        steps = batches.rows.n_windows(self._config.train.unroll_steps)
        sums = self._sum(params, n_rows, prefetch(batches.stream(batches.start(), steps=steps)), corpus, progress)
        unknown = np.asarray(word_ids == self._vocabulary.unk_id)
        words = np.asarray(corpus.type_counts)
        oov = int(words[2:][unknown[2:]].sum())
        nll = {direction: sums[f"nll_{direction}"] for direction in self._config.model.directions}
        return Perplexity(nll, round(sums["count"]), oov, corpus.n_tokens, streams)

    def lower(self, params: Any, corpus: Corpus, *, streams: int) -> Any:
        """The step of such a call, traced and ready to be compiled (``jax.stages.Lowered``).

        Args:
            params: shapes and dtypes of the parameters.
            corpus: as for a call.
            streams: as for a call.
        """
        n_rows, batches = self._batches(corpus, corpus.word_ids(self._vocabulary), streams)
        state = EvalState(params, jax.eval_shape(lambda: zero_carry(self._config.model, n_rows)))
        batch, _ = batches.at(batches.start())
        step: Any = self._step
        return step.lower(self._devices.state_like(state, EVAL_SPECS), self._devices.place_batch(batch))

    def _batches(self, corpus: Corpus, word_ids: np.ndarray, streams: int) -> tuple[int, Batches]:
        """How many rows all devices have together, and the batches of this process's."""
        wanted = streams or STATELESS_ROWS
        # Rows beyond the wanted ones fill up the last device and read nothing.
        n_devices = len(self._devices.devices)
        n_rows = -(-wanted // n_devices) * n_devices
        mine = self._devices.rows(n_rows)
        rows = Rows(corpus, n_rows=wanted, rows=mine, seed=None, epochs=1, reset=0.0 if streams else 1.0)
        model = self._config.model
        shape = len(self._devices.local_devices), model.token_width, self._config.train.unroll_steps
        return n_rows, Batches(rows, corpus, word_ids, *shape, len(model.directions))

    def _sum(self, params: Any, n_rows: int, batches: Any, corpus: Corpus, progress: bool) -> dict[str, float]:
        sharding = self._devices.sharding(BY_ROWS)
        carry = jax.jit(lambda: zero_carry(self._config.model, n_rows), out_shardings=sharding)()
        totals = {"count": 0.0}
        running: deque[Any] = deque()
        bar = Progress(corpus.n_predictions, 0, "tokens") if progress else None

        def settle(allowed: int) -> None:
            while len(running) > allowed:
                for name, value in self._devices.scalars(running.popleft()).items():
                    totals[name] = totals.get(name, 0.0) + value
                if bar:
                    bar.update(round(totals["count"]), {})

        for batch, _ in batches:
            carry, sums = self._step(EvalState(params, carry), self._devices.place_batch(batch))
            for value in sums.values():
                value.copy_to_host_async()
            running.append(sums)
            settle(IN_FLIGHT)
        settle(0)
        if bar:
            bar.close()
        return totals
