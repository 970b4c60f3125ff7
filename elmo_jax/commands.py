"""What the commands of ``elmo`` do; ``cli.py`` has their arguments."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elmo_jax import checkpoint, config_io, parallel
from elmo_jax.config import Config
from elmo_jax.data import vocab
from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import expand, text_source
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.model.bilm import BiLM, compute_dtype
from elmo_jax.model.clusters import Clusters
from elmo_jax.telemetry import summary_table
from elmo_jax.train.evaluate import Evaluator, Perplexity
from elmo_jax.train.pretrain import pretrain
from elmo_jax.train.run_directory import RunDirectory


def train(options: argparse.Namespace) -> int:
    """Pretrain a model, or go on with a run."""
    config = config_io.experiment(options.config)
    for path, text in options.overrides:
        config = config_io.override(config, path, text)
    config.validate()
    if options.show_config:
        print(config_io.to_json(config), end="")
        return 0
    return pretrain(config)


def build_vocabulary(options: argparse.Namespace) -> int:
    """Build a vocabulary from text shards."""
    if options.min_count < 1:
        raise UserError(f"--min-count is {options.min_count}: it must be at least 1, which keeps every word")
    if options.max_size < 4:
        raise UserError(
            f"--max-size is {options.max_size}: it must leave room for <S>, </S>, <UNK> and a word: at least 4"
        )
    output = Path(options.output)
    if output.exists() and not options.force:
        raise UserError(f"{output} exists; choose another --output, or give --force to replace it")
    counts = vocab.count_text(expand(options.text))
    vocabulary = vocab.build(counts, options.min_count, options.max_size)
    vocabulary.save(output)
    assert vocabulary.counts is not None
    unknown, total = int(vocabulary.counts[vocabulary.unk_id]), sum(counts.values()) - 2 * counts[vocab.BOS]
    print(
        f"{output}: {len(vocabulary):,} words of {total:,} tokens in {counts[vocab.BOS]:,} sentences; "
        f"{unknown:,} tokens ({100 * unknown / total:.2f} %) are out of it"
    )
    return 0


def encode(options: argparse.Namespace) -> int:
    """Encode text ahead of training."""
    corpus = prepare(text_source(options.text), Path(options.output))
    print(
        f"{corpus.directory}: {corpus.n_tokens:,} tokens, {corpus.n_sentences:,} sentences, "
        f"{corpus.n_documents:,} documents, {corpus.n_types:,} types; {corpus.n_empty_lines:,} empty lines skipped; "
        f"the longest token has {corpus.longest_token_bytes:,} bytes"
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Perplexity of a run's weights on text."""
    streams = 0 if options.stateless else options.streams
    if streams < 0 or (streams == 0 and not options.stateless):
        raise UserError(
            f"--streams is {streams}: it must be at least 1; --stateless resets the state at every sentence"
        )
    run = RunDirectory(Path(options.run))
    config, vocabulary, step, params = _load(run, options.step)
    clusters = Clusters(len(vocabulary), config.model.softmax.cutoffs)
    model = BiLM(config.model, clusters, compute_dtype(config.model))
    cache = Path(options.cache_dir) if options.cache_dir else run.path.parent / "encoded"
    corpus = prepare(text_source(options.text), cache)
    evaluator = Evaluator(model, config, vocabulary, parallel.DataParallel())
    result = evaluator(params, corpus, streams=streams, progress=not options.json)
    if options.json:
        print(json.dumps({"run": options.run, "step": step, "text": options.text, **result.as_dict()}))
    else:
        print(_describe(options, step, result))
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a run's weights as bilm-tf files."""
    config, vocabulary, step, params = _load(RunDirectory(Path(options.run)), options.step)
    notes = bilm_tf.export(Path(options.output), params, config, vocabulary)
    print(f"{options.output}: weights of {options.run} at step {step}")
    for note in notes:
        print(f"  note: {note}")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train,
    "vocab": build_vocabulary,
    "encode": encode,
    "eval": evaluate,
    "export": export,
}


def _load(run: RunDirectory, step: int | None) -> tuple[Config, vocab.Vocabulary, int, Any]:
    config, vocabulary = run.config(), run.vocabulary()
    step, params, _ = checkpoint.restore_params(run.checkpoints, step=step)
    return config, vocabulary, step, params


def _describe(options: argparse.Namespace, step: int, result: Perplexity) -> str:
    return summary_table(
        {
            "run": f"{options.run}, step {step:,}",
            "text": options.text,
            "state": result.kind,
            "perplexity": f"{result.average:.3f}",
            "forward": f"{result.forward:.3f}",
            "backward": f"{result.backward:.3f}",
            "predictions": f"{result.count:,} in each direction, from {result.words:,} words",
            "unknown words": f"{result.oov:,} ({100 * result.oov / max(1, result.words):.2f} %), scored as <UNK>",
        }
    )
