"""What a run prints when it starts and when it is complete."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from elmo_jax.config import Model
from elmo_jax.errors import UserError
from elmo_jax.model import cost
from elmo_jax.model.bilm import compute_dtype
from elmo_jax.parallel import DataParallel
from elmo_jax.telemetry import Clock, parameter_table, summary_table
from elmo_jax.train.evaluate import Perplexity
from elmo_jax.train.inputs import Inputs
from elmo_jax.train.optim import peak_rate
from elmo_jax.train.run_directory import RunDirectory


def startup(inputs: Inputs, devices: DataParallel, until: int, step: int, origin: str, params: Any) -> str:
    """Configuration, devices, text, steps, cost of a token and the parameter table, as text."""
    config, corpus, heldout = inputs.config, inputs.corpus, inputs.heldout
    model, train = config.model, config.train
    per_step = train.batch_size * train.unroll_steps
    decay, patience = config.optimizer.ema_decay, config.evaluation.patience
    ends = ", ".join(f"{end:,}" for end in inputs.clusters.cutoffs)
    rows = {
        "run directory": f"{config.run_dir} (all settings in config.json)",
        "model": _network(model),
        "softmax": f"{model.softmax.kind}, {inputs.clusters.n_words:,} words"
        + (f", clusters end at {ends}" if ends else "")
        + (", shared with the input" if model.share_embedding_softmax else ""),
        "devices": f"{len(devices.devices)} x {devices.devices[0].device_kind} ({devices.devices[0].platform}), "
        f"{jax.process_count()} process(es), {devices.mode}, mesh {dict(devices.mesh.shape)}",
        "training text": f"{corpus.n_tokens:,} tokens, {corpus.n_sentences:,} sentences, "
        f"{corpus.n_token_types:,} types",
        "held-out text": f"{heldout.n_tokens:,} tokens" if heldout else "none: no evaluation (config.data.heldout)",
        "batch": f"{train.batch_size} rows x {train.unroll_steps} tokens = {per_step:,} predictions a direction",
        "steps": f"{until:,} = {until * per_step / corpus.n_predictions:.2f} epochs; from step {step:,}"
        + (f"; fewer after {patience} evaluations in a row that are no better" if patience else ""),
        "optimiser": f"{config.optimizer.name}, learning rate {peak_rate(config.optimizer):g}, "
        f"{config.optimizer.schedule}, clipped at {config.optimizer.all_clip_norm_val:g}"
        + (f"; weights averaged with decay {decay:g}" if decay else ""),
        "weights from": origin,
        **_cost(inputs),
    }
    return f"{summary_table(rows)}\n\n{parameter_table(params)}\n"


def _network(model: Model) -> str:
    lstm, cnn = model.lstm, model.char_cnn
    reads = "words" if model.input == "words" else f"{cnn.n_filters} filters, {cnn.n_highway} highway"
    direction = "" if model.bidirectional else ", forward only"
    dtype = jnp.dtype(compute_dtype(model)).name
    return f"{lstm.n_layers} x LSTM {lstm.dim}/{lstm.projection_dim}{direction}, {reads}, {dtype} products"


def _cost(inputs: Inputs) -> dict[str, str]:
    model = inputs.config.model
    lstm, per_type = cost.lstm_macs(model), cost.encoder_macs(model)
    softmax = cost.softmax_macs(model, inputs.clusters, inputs.vocabulary.counts)
    # A multiply-add is two operations; the backward pass costs twice the forward pass.
    return {
        "cost of a token": f"{6 * (lstm + softmax) / 1e6:,.1f} MFLOP in training (LSTMs {6 * lstm / 1e6:,.1f}, softmax "
        f"{6 * softmax / 1e6:,.1f})"
        + (f", and {6 * per_type / 1e6:,.1f} for each distinct type of a batch" if per_type else "")
    }


def final(
    run: RunDirectory,
    steps: int,
    stopped: str,
    best_step: int,
    results: Sequence[Perplexity],
    notes: Sequence[str],
    clock: Clock,
) -> str:
    """The result of a complete run, as text; it is kept as ``summary.json`` in the run directory too.

    Args:
        run: its directory, with the export.
        steps: done.
        stopped: when and why it was stopped early; empty when it was not.
        best_step: of the weights that were evaluated and exported.
        results: on all held-out text.
        notes: of the export.
        clock: of this command.
    """
    facts = {
        "steps": steps,
        "stopped_early": bool(stopped),
        "best_step": best_step,
        "heldout": [result.as_dict() for result in results],
        "seconds": dict(clock.seconds),
    }
    _write_json(run.path / "summary.json", facts)
    training = stopped or f"complete, {steps:,} steps"
    rows = {"training": f"{training}; the best weights are those of step {best_step:,}"}
    for result in results:
        each = ", ".join(f"{direction} {value:.2f}" for direction, value in result.by_direction.items())
        rows[f"perplexity, {result.kind}"] = (
            f"{result.average:.2f} ({each if len(result.nll) > 1 else 'forward only'}) on {result.count:,} held-out "
            f"predictions a direction, {100 * result.oov_rate:.1f} % of words unknown"
        )
    rows["exported weights"] = f"{run.export} ({', '.join(sorted(p.name for p in run.export.iterdir()))})"
    shares = sorted(clock.shares().items(), key=lambda item: -item[1])
    rows["time"] = f"{clock.total:.0f} s: " + ", ".join(
        f"{name} {100 * share:.1f} %" for name, share in shares if share >= 0.0005
    )
    notes_text = "".join(f"\n  note: {note}" for note in notes)
    return f"\n{summary_table(rows)}{notes_text}"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".json.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room there and start again") from error
