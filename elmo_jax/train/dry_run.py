"""A dry run: everything of a run but its steps."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from elmo_jax import checkpoint, telemetry, trackers
from elmo_jax.config import Config
from elmo_jax.errors import UserError
from elmo_jax.exit_status import COMPLETE
from elmo_jax.model import cost
from elmo_jax.parallel import REPLICATED, DataParallel
from elmo_jax.train import memory, summary
from elmo_jax.train.inputs import Inputs, cache_directory, gather
from elmo_jax.train.origin import Origin
from elmo_jax.train.program import Program
from elmo_jax.train.run_directory import RunDirectory
from elmo_jax.train.step import STATE_SPECS, TrainState


def dry_run(config: Config) -> int:
    """Do all that ``pretrain`` does before its first step, compile its programs, and tell what they need.

    Reads the text, which is encoded into the cache as for a run, and looks into the run directory; makes and changes
    nothing in it. Parameters are never allocated: a model can be tried that fits on no device here.

    Returns:
        0 when training could start and its programs fit in memory.

    Raises:
        UserError: where ``pretrain`` would, and when memory is too little.
    """
    devices = DataParallel(config.validate().parallel.mode)
    devices.rows(config.train.batch_size, config.train.gradient_accumulation)
    run = RunDirectory(Path(config.run_dir))
    run.check_free()
    trackers.check_installed(config.watch)
    inputs = gather(config)
    program = Program(inputs, devices)
    step, origin = _start(run, inputs)
    state = program.state_like()
    telemetry.message(summary.startup(inputs, devices, inputs.n_steps, step, origin, state.params))
    remedy = memory.remedy(inputs.config.train, len(devices.devices))
    with memory.shortage_is_told(remedy):
        needed, rows = _compile(program, state)
    limit = memory.available(devices.local_devices[0], len(devices.local_devices))
    rows["memory"] = f"{memory.size(needed)} of " + (f"{memory.size(limit)} a device" if limit else "an unknown limit")
    rows |= _files(run, inputs, state)
    telemetry.message(telemetry.summary_table(rows))
    if limit and needed > limit:
        raise UserError(
            f"training takes {memory.size(needed)} of each device, which has {memory.size(limit)}: {remedy}"
        )
    telemetry.message("\nThe dry run is complete: without --dry-run the same command trains.")
    return COMPLETE


def _start(run: RunDirectory, inputs: Inputs) -> tuple[int, str]:
    """The step that training would start from, and where its weights would come from."""
    newest = checkpoint.newest_meta(run.checkpoints) if run.has_checkpoint else None
    if newest is not None:
        step, meta = newest
        run.check_goes_on(step, inputs.n_steps, meta, inputs.identity)
        return step, f"checkpoint of step {step} (training reads and checks its arrays)"
    if inputs.config.init_from:
        return 0, Origin(inputs.config.init_from).title
    return 0, f"random initialisation (seed {inputs.config.train.seed})"


def _compile(program: Program, state: TrainState) -> tuple[int, dict[str, str]]:
    """Compile the steps of training and evaluation; the bytes they need of a device, and what to tell of them."""
    inputs, devices = program.inputs, program.devices
    config = inputs.config
    batch, _ = program.batches.at(program.batches.start())
    wrapped: Any = devices.wrap(
        program.train_step(), STATE_SPECS, outputs=(STATE_SPECS, REPLICATED), donate=not config.debug
    )
    began = time.perf_counter()
    training = memory.usage(wrapped.lower(devices.state_like(state, STATE_SPECS), devices.place_batch(batch)).compile())
    seconds = time.perf_counter() - began
    rows = {
        "predictions": _predictions(inputs),
        "compute": _compute(inputs, batch.n_types),
        "state": f"{memory.size(memory.tree_bytes(state.params))} of parameters, "
        f"{memory.size(memory.tree_bytes(state.opt_state))} of {config.optimizer.name}, "
        + (f"{memory.size(memory.tree_bytes(state.average))} of averages, " if state.average is not None else "")
        + f"{memory.size(memory.tree_bytes(state.carry))} of LSTM states",
        "training step": f"{training}, compiled in {seconds:.1f} s",
    }
    if inputs.heldout is None:
        return training.total, rows
    began = time.perf_counter()
    lowered = program.evaluator.lower(state.params, inputs.heldout, streams=config.evaluation.streams)
    evaluation = memory.usage(lowered.compile())
    rows["evaluation step"] = f"{evaluation}, compiled in {time.perf_counter() - began:.1f} s"
    # The state of training stays where it is meanwhile, and the weights that are evaluated are a part of it.
    besides = memory.tree_bytes(state.opt_state) + memory.tree_bytes(state.carry) // len(devices.devices)
    besides += memory.tree_bytes(state.params) if state.average is not None else 0
    return max(training.total, evaluation.total + besides), rows


def _predictions(inputs: Inputs) -> str:
    train, epoch = inputs.config.train, inputs.corpus.n_predictions
    a_step = train.batch_size * train.unroll_steps
    return f"{a_step:,} a step, {epoch:,} an epoch, {a_step * inputs.n_steps:,} in all, each way"


def _compute(inputs: Inputs, n_types: np.ndarray) -> str:
    """Operations of a step, counted from the model: XLA's own count takes the body of a loop once."""
    config = inputs.config
    a_token = cost.lstm_macs(config.model)
    a_token += cost.softmax_macs(config.model, inputs.clusters, inputs.vocabulary.counts)
    tokens, types = config.train.batch_size * config.train.unroll_steps, int(n_types.sum())
    macs = tokens * a_token + types * cost.encoder_macs(config.model)
    return f"{6 * macs / 1e12:,.3g} TFLOP a step, whose first batch has {types:,} distinct types"


def _files(run: RunDirectory, inputs: Inputs, state: TrainState) -> dict[str, str]:
    """Room that the checkpoints take, and what the dry run has left."""
    bytes_each = memory.tree_bytes(state)
    # The newest, the best, and the one that is being written.
    at_most = inputs.config.checkpoint.keep + 2
    nearest = next(p for p in (run.path, *run.path.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(nearest).free
    enough = "" if at_most * bytes_each <= free else ": too little, make room before training"
    return {
        "checkpoints": f"{memory.size(bytes_each)} each and at most {at_most} of them at a time; "
        f"{memory.size(free)} are free{enough}",
        "files": f"encoded text in {cache_directory(inputs.config)}; nothing in the run directory",
    }
