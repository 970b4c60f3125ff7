"""Pretraining: text in; checkpoints, held-out perplexity and exported weights out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax import checkpoint, telemetry, trackers
from elmo_jax.allocator import give_back
from elmo_jax.config import Config
from elmo_jax.data.batches import prefetch
from elmo_jax.exit_status import COMPLETE
from elmo_jax.interop import bilm_tf
from elmo_jax.parallel import BY_ROWS, REPLICATED, DataParallel
from elmo_jax.train import loop, memory, optim, run_lock, summary
from elmo_jax.train.debug import WatchedStep
from elmo_jax.train.early_stopping import EarlyStopping
from elmo_jax.train.inputs import Inputs, gather
from elmo_jax.train.interruption import Interruption
from elmo_jax.train.origin import Origin
from elmo_jax.train.profiler import ProfilerWindow
from elmo_jax.train.program import Program
from elmo_jax.train.report import TrainingReport
from elmo_jax.train.run_directory import RunDirectory
from elmo_jax.train.step import STATE_SPECS, TrainState

log = logging.getLogger(__name__)


def pretrain(config: Config) -> int:
    """Train, or go on training, the run in ``config.run_dir``; evaluate and export it when it is complete.

    The weights come from, in this order: the run's own newest undamaged checkpoint, the model named by
    ``config.init_from``, the random initialisation.

    Returns:
        The exit status: 0 when training is complete or was stopped early, 143 or 130 when SIGTERM or Ctrl-C ended it
        (its state is saved and the same command goes on).

    Raises:
        UserError: for everything a user can mend.
    """
    devices = DataParallel(config.validate().parallel.mode)
    devices.rows(config.train.batch_size, config.train.gradient_accumulation)
    run = RunDirectory(Path(config.run_dir))
    run.check_free()
    trackers.check_installed(config.watch)
    remedy = memory.remedy(config.train, len(devices.devices))
    with run_lock.hold(run.path), memory.shortage_is_told(remedy):
        return _pretrain(config, run, devices)


def _pretrain(config: Config, run: RunDirectory, devices: DataParallel) -> int:
    """``pretrain`` with the run directory to itself."""
    clock = telemetry.Clock()
    with clock.measure("text"):
        inputs = gather(config)
    profiler = ProfilerWindow(config.watch, inputs.n_steps, run.path / "profile", clock)
    if not run.has_checkpoint:
        run.create(inputs.config, inputs.vocabulary)
    with (
        trackers.Metrics(run.path, config.watch) as writer,
        checkpoint.Checkpoints(run.checkpoints, keep=config.checkpoint.keep) as saved,
    ):
        return _Pretraining(run, inputs, devices, clock, writer, saved, profiler).run()


@dataclass
class Start:
    """Where training begins: a state, and how far its run has come."""

    state: TrainState
    step: int
    position: np.ndarray
    report: dict[str, Any] | None
    origin: str


class _Pretraining:
    """One call of ``pretrain``: its parts, and the hooks that the loop calls."""

    def __init__(
        self,
        run: RunDirectory,
        inputs: Inputs,
        devices: DataParallel,
        clock: telemetry.Clock,
        writer: trackers.Metrics,
        saved: checkpoint.Checkpoints,
        profiler: ProfilerWindow,
    ) -> None:
        self.run_directory, self.inputs, self.devices = run, inputs, devices
        self.clock, self.writer, self.saved, self.profiler = clock, writer, saved, profiler
        self.config, self.until = inputs.config, inputs.n_steps
        self.program = Program(inputs, devices)
        self.early_stopping = EarlyStopping(self.config.evaluation.patience)

    def run(self) -> int:
        """Train until done, stopped early or interrupted."""
        interruption = Interruption()
        with interruption, self.clock.measure("initialisation"):
            start = self._start()
        # Only now is it sure that this command goes on with that run.
        self.run_directory.create(self.config, self.inputs.vocabulary)
        text = summary.startup(self.inputs, self.devices, self.until, start.step, start.origin, start.state.params)
        telemetry.message(text)
        step = start.step
        if step < self.until and not self.early_stopping.due:
            self.writer.begin(step, self.config, text)
            with interruption:
                step = self._train(start, interruption)
            if interruption.requested:
                telemetry.message(f"stopped at step {step} of {self.until}, saved; the same command goes on from there")
                return interruption.exit_status
        return self._finish(step)

    def _train(self, start: Start, interruption: Interruption) -> int:
        step = self._step()
        tokens = self.config.train.batch_size * self.config.train.unroll_steps
        done = start.report["tokens"] if start.report else 0
        progress = telemetry.Progress(done + (self.until - start.step) * tokens, done, "tokens")
        self.report = TrainingReport(
            self.writer,
            progress,
            self.devices,
            self.clock,
            every=self.config.log_every_steps,
            until=self.until,
            per_epoch=self.inputs.corpus.n_predictions,
            learning_rate=optim.schedule(self.config.optimizer, self.until),
            clip_norm=self.config.optimizer.all_clip_norm_val,
        )
        if start.report:
            self.report.restore(start.report)
        batches = prefetch(self.program.batches.stream(start.position))
        try:
            _, done = loop.run(
                self.devices.place_state(start.state, STATE_SPECS),
                self.profiler.around(step, start.step),
                batches,
                start=start.step,
                until=self.until,
                hooks=loop.Hooks(
                    report=self.report,
                    evaluate=self._evaluate,
                    save=self._save,
                    evaluate_every=self.config.evaluation.every_steps,
                    save_every=self.config.checkpoint.every_steps,
                    stop=lambda: interruption.requested or self.early_stopping.due,
                ),
                clock=self.clock,
            )
        finally:
            self.profiler.close()
            batches.close()
            progress.close()
        with self.clock.measure("checkpoint"):
            self.saved.wait()
        return done

    def _step(self) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
        """The step as the loop calls it, with a batch of this process."""
        if self.config.debug:
            return WatchedStep(self.program.train_step(), self.devices)
        step: Any = self.devices.wrap(self.program.train_step(), STATE_SPECS, outputs=(STATE_SPECS, REPLICATED))
        compiled: Any = None

        def run(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
            nonlocal compiled
            batch = self.devices.place_batch(batch)
            if compiled is None:
                compiled = step.lower(state, batch).compile()
                give_back()
            result: tuple[TrainState, Any] = compiled(state, batch)
            return result

        return run

    def _evaluate(self, step: int, state: TrainState) -> float | None:
        if self.inputs.heldout is None:
            return None
        limit = self.config.evaluation.max_tokens
        heldout = self.inputs.heldout.first(limit) if limit else self.inputs.heldout
        params = self.devices.global_state(state.learnt, STATE_SPECS.params)
        result = self.program.evaluator(params, heldout, streams=self.config.evaluation.streams)
        self.writer.write(step, {f"eval/{name}": value for name, value in result.as_dict().items()})
        telemetry.message(f"step {step}: held-out perplexity {result.average:.2f} ({result.kind})")
        self.early_stopping(step, result.average)
        return result.average

    def _save(self, step: int, state: TrainState, position: np.ndarray, perplexity: float | None) -> None:
        learnt, rest = self.devices.global_state(state, STATE_SPECS).split()
        rest["position"] = self.devices.from_local_rows(position)
        meta = {
            "step": step,
            "report": self.report.state(),
            "early stopping": self.early_stopping.state(),
            **self.inputs.identity,
        }
        self.saved.save(step, learnt, rest, meta, perplexity=perplexity)

    def _start(self) -> Start:
        """Own run directory -> the model named by init_from -> random initialisation."""
        like = self.program.state_like()
        places = jax.tree.map(lambda x: x.sharding, like)
        learnt, rest = like.split()
        rest["position"] = jax.ShapeDtypeStruct(
            (self.config.train.batch_size, 3), jnp.int32, sharding=self.devices.sharding(BY_ROWS)
        )
        restored = self.saved.restore(learnt, rest)
        if restored is not None:
            return self._resume(restored)
        state = jax.jit(self.program.initial_state, out_shardings=places)()
        origin = f"random initialisation (seed {self.config.train.seed})"
        if self.config.init_from:
            params, origin = Origin(self.config.init_from).weights(state.params)
            state = state.replace(params=jax.device_put(params, places.params))
        return Start(state, 0, self.program.batches.start(), None, origin)

    def _resume(self, restored: checkpoint.Restored) -> Start:
        meta = restored.meta
        self.run_directory.check_goes_on(restored.step, self.until, meta, self.inputs.identity)
        # A checkpoint from before there was early stopping counts from here on.
        self.early_stopping.restore(meta.get("early stopping", self.early_stopping.state()))
        position = self.devices.local_rows(restored.state["position"])
        state = TrainState.join(restored.params, restored.state)
        return Start(state, restored.step, position, meta["report"], f"checkpoint of step {restored.step}")

    def _finish(self, step: int) -> int:
        """Evaluate the best weights on all held-out text, export them, and say how it went."""
        stopped = (
            f"stopped early at step {step:,} of {self.until:,}: {self.early_stopping.reason}"
            if step < self.until
            else ""
        )
        if stopped:
            telemetry.message(f"{stopped}; a larger --config.evaluation.patience, or 0, goes on from there")
        best, params, _ = checkpoint.restore_params(self.run_directory.checkpoints)
        results = []
        if self.inputs.heldout is not None:
            with self.clock.measure("evaluation"):
                results = [
                    self.program.evaluator(params, self.inputs.heldout, streams=streams, progress=True)
                    for streams in dict.fromkeys((self.config.evaluation.streams, 0))
                ]
        with self.clock.measure("export"):
            notes = bilm_tf.export(self.run_directory.export, params, self.config, self.inputs.vocabulary)
        telemetry.message(summary.final(self.run_directory, step, stopped, best, results, notes, self.clock))
        return COMPLETE
