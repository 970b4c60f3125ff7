"""Everything a run reads: corpora, vocabulary, and the configuration with what follows from them filled in."""

import dataclasses
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp

from elmo_jax.config import Config, Data
from elmo_jax.data.corpus import Corpus, prepare, text_or_corpus
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.streams import Rows
from elmo_jax.data.text import Source, pydoc_source
from elmo_jax.data.tfds_source import shared_records, tfds_source
from elmo_jax.data.vocab import Vocabulary, build_from_corpus, counts_path, tokenizer_path
from elmo_jax.errors import UserError
from elmo_jax.model.bilm import compute_dtype
from elmo_jax.model.clusters import Clusters, choose_cutoffs
from elmo_jax.train.origin import Origin
from elmo_jax.train.run_directory import RunDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes:
        config: with ``model.softmax.cutoffs`` chosen.
        corpus: training text.
        heldout: held-out text, if there is any.
        vocabulary: of the softmax.
    """

    config: Config
    corpus: Corpus
    heldout: Corpus | None
    vocabulary: Vocabulary

    @property
    def clusters(self) -> Clusters:
        """Sizes of the softmax."""
        softmax = self.config.model.softmax
        return Clusters(len(self.vocabulary), softmax.cutoffs if softmax.kind == "adaptive" else ())

    @property
    def n_steps(self) -> int:
        """Steps of the whole run; an epoch is one reading of every prediction (words and one boundary a sentence)."""
        train = self.config.train
        per_step = train.batch_size * train.unroll_steps
        return train.n_steps or math.ceil(train.n_epochs * self.corpus.n_predictions / per_step)

    @property
    def identity(self) -> dict[str, str | None]:
        """What a run goes on with unchanged, wherever its files lie."""
        return {
            "training text": self.corpus.fingerprint,
            "held-out text": self.heldout.fingerprint if self.heldout else None,
            "vocabulary": self.vocabulary.digest(),
        }

    def rows(self, mine: range) -> Rows:
        """The endless rows of the training text that a process reads.

        Raises:
            UserError: when the text has fewer pieces than the run has rows.
        """
        train = self.config.train
        return Rows(
            self.corpus,
            n_rows=train.batch_size,
            rows=mine,
            seed=train.seed,
            unit=self.config.data.unit,
            epochs=None,
            reset={"carried": 0.0, "sentence": 1.0, "random": train.reset_probability}[train.state],
        )


def gather(config: Config, *, progress: bool = True) -> Inputs:
    """Encode the text (once; it is kept), get the vocabulary and choose the clusters.

    The vocabulary is that of the run itself, if it has a checkpoint; else the given file; else that of the model
    started from; else it is built from the training text. What can be checked before the text is encoded, is.

    Raises:
        UserError: for unusable text or vocabulary, and weights to start from that do not fit.
    """
    cache, run = cache_directory(config), RunDirectory(Path(config.run_dir))
    text = _source(config, heldout=False)
    has_heldout = {"text": config.data.heldout, "pydoc": True, "tfds": config.data.tfds.heldout}[config.data.source]
    held = _source(config, heldout=True) if has_heldout else None
    if held and (both := _in_both(config, text, held)):
        log.warning("%s is both training and held-out text: its perplexity tells nothing of new text", both)
    origin = Origin(config.init_from) if config.init_from and not run.has_checkpoint else None
    vocabulary = _given_vocabulary(config, origin)
    config = _with_dtype(config)
    if vocabulary is not None:
        config = _choose(config, vocabulary, origin)
        if run.has_checkpoint:
            run.check_same(config)
    if origin is not None:
        origin.check(config, vocabulary)
    heldout = prepare(held, cache, progress=progress) if held else None
    corpus = prepare(text, cache, progress=progress)
    if vocabulary is None:
        data = config.data
        vocabulary = build_from_corpus(corpus, data.min_count, data.max_vocabulary, segmentation(data).tokens)
        config = _choose(config, vocabulary, origin)
    inputs = Inputs(config, corpus, heldout, vocabulary)
    # Refuses too little text before a run is begun.
    inputs.rows(range(config.train.batch_size))
    return inputs


def cache_directory(config: Config) -> Path:
    """Where encoded corpora are kept."""
    return Path(config.data.cache_dir) if config.data.cache_dir else Path(config.run_dir).parent / "encoded"


def _source(config: Config, *, heldout: bool) -> Source:
    if config.data.source == "pydoc":
        return pydoc_source(heldout)
    if config.data.source == "tfds":
        tfds = config.data.tfds
        return tfds_source(
            tfds.name,
            tfds.heldout if heldout else tfds.train,
            feature=tfds.feature,
            data_dir=tfds.data_dir,
            segmentation=segmentation(config.data),
        )
    return text_or_corpus(config.data.heldout if heldout else config.data.train, segmentation(config.data))


def segmentation(data: Data) -> Segmentation:
    """How text is cut into sentences and tokens.

    Raises:
        UserError: when the language is unknown or a package is missing.
    """
    return Segmentation(data.tokenizer, data.sentences, data.language)


def _in_both(config: Config, text: Source, held: Source) -> str:
    """What is both training and held-out text; empty when nothing is."""
    if config.data.source == "text":
        return str(min(set(text.files) & set(held.files), default=""))
    if config.data.source == "tfds":
        tfds = config.data.tfds
        n_both = shared_records(tfds.name, tfds.train, tfds.heldout, tfds.data_dir)
        return f"{tfds.name} {tfds.heldout!r} ({n_both:,} records of it)" if n_both else ""
    return ""


def _given_vocabulary(config: Config, origin: Origin | None) -> Vocabulary | None:
    """The vocabulary when there is one already."""
    run = RunDirectory(Path(config.run_dir))
    given = Path(config.data.vocabulary) if config.data.vocabulary else None
    if run.has_checkpoint:
        own = run.vocabulary()
        if given is not None and given.exists() and Vocabulary.load(given).digest() != own.digest():
            raise UserError(
                f"config.data.vocabulary is {given}, and {run.path} was trained with other words: leave it out to go "
                "on with its own, or choose another --config.run_dir"
            )
        return own
    if given is not None:
        vocabulary, path = Vocabulary.load(given), given
    elif origin is not None and origin.vocabulary is not None:
        vocabulary, path = origin.vocabulary, origin.vocabulary_file
    else:
        return None
    _check_tokenizer(config.data, vocabulary, path)
    return vocabulary


def _check_tokenizer(data: Data, vocabulary: Vocabulary, path: Path) -> None:
    tokens = segmentation(data).tokens
    if vocabulary.tokenizer not in (None, tokens):
        raise UserError(
            f"the words of {path} were made by the tokenizer {vocabulary.tokenizer!r}, and this run has {tokens!r}: "
            "set config.data.tokenizer and config.data.language to the same; for text that is tokenized like that "
            f"already, use a copy of the file without {tokenizer_path(path).name}"
        )


def _with_dtype(config: Config) -> Config:
    """Fill in the dtype of products for "auto": that which the run began with, else that for this device."""
    if config.model.compute_dtype != "auto":
        return config
    run = RunDirectory(Path(config.run_dir))
    name = run.config().model.compute_dtype if run.has_checkpoint else jnp.dtype(compute_dtype(config.model)).name
    return dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype=name))


def _choose(config: Config, vocabulary: Vocabulary, origin: Origin | None) -> Config:
    """Fill in the clusters of an adaptive softmax."""
    softmax, n_words = config.model.softmax, len(vocabulary)
    if softmax.kind != "adaptive":
        return config
    if softmax.cutoffs:
        if softmax.cutoffs[-1] >= n_words:
            raise UserError(
                f"config.model.softmax.cutoffs is {softmax.cutoffs}: each must be below the {n_words} words of the "
                "vocabulary; lower them, or leave them empty to have them chosen"
            )
        return config
    run = RunDirectory(Path(config.run_dir))
    if run.has_checkpoint:
        cutoffs = run.config().model.softmax.cutoffs
    elif origin is not None and origin.has_softmax and not config.data.vocabulary:
        cutoffs = origin.config.model.softmax.cutoffs
    elif vocabulary.counts is None:
        raise UserError(
            f"the adaptive softmax needs the counts of the {n_words} words: put them, one a line, into "
            f"{counts_path(Path(config.data.vocabulary))} (elmo vocab writes it), "
            "or set --config.model.softmax.cutoffs"
        )
    else:
        cutoffs = choose_cutoffs(vocabulary.counts, config.model.lstm.projection_dim, softmax.factor)
    filled = dataclasses.replace(softmax, cutoffs=cutoffs)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, softmax=filled))
