"""The model card of a pretrained directory: what the model is, what it learnt from, how good it is, how to use it.

It says what is known and no more; what is not known is said to be not known. What is known of a model besides its
configuration is in ``Pretrained.about``:

==================  =======================================================================
``name``            for people
``license``         an identifier of the hub, such as ``apache-2.0``
``language``        codes such as ``["en"]``
``text``            what the training text was
``text_tokens``     its tokens, without boundaries
``text_sentences``  its sentences
``tokens_seen``     predictions of each direction that the weights learnt from
``init_from``       where the weights were from when training began
``heldout``         perplexities on held-out text, each as ``Perplexity.as_dict`` gives it
==================  =======================================================================

All of them may be absent, and others may be there: the card lists those as they are.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

import elmo_jax
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained

KNOWN = frozenset(
    {"name", "license", "language", "text", "text_tokens", "text_sentences", "tokens_seen", "init_from", "heldout"}
)
NOT_KNOWN = "not known"

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual")


def fields(name: str | None = None, license: str | None = None, language: str | None = None) -> dict[str, Any]:
    """What a user says of a model, checked, as fields of ``Pretrained.about``; None says nothing.

    Args:
        name: one line.
        license: an identifier of the hub, such as ``apache-2.0``, ``cc-by-4.0`` or ``other``.
        language: ISO 639 codes, separated by commas.

    Raises:
        UserError: for what the hub would not take.
    """
    found: dict[str, Any] = {}
    if name is not None:
        if not name.strip() or len(name.splitlines()) > 1:
            raise UserError(f"the name of the model is {name!r}: it must be one line of text")
        found["name"] = name.strip()
    if license is not None:
        if not _LICENSE.fullmatch(license):
            raise UserError(
                f"the licence is {license!r}: it must be an identifier of the hub, such as apache-2.0 or cc-by-4.0"
            )
        found["license"] = license
    if language is not None:
        codes = [code.strip() for code in language.split(",")]
        for code in codes:
            if not _LANGUAGE.fullmatch(code):
                raise UserError(f"the language is {code!r}: it must be an ISO 639 code such as en, or multilingual")
        found["language"] = codes
    return found


def card(model: Pretrained, folder: str, sums: Mapping[str, tuple[int, str]], dtype: str = "float32") -> str:
    """The text of ``README.md``.

    Args:
        model: with what is known of it.
        folder: name of the directory, for the examples.
        sums: bytes and SHA-256 of the other files.
        dtype: in which the numbers are stored.
    """
    parts = [
        _front_matter(model),
        f"# {model.about.get('name') or folder}\n",
        _introduction(model, dtype),
        _use(model, folder),
        "## Training\n\n" + _table(_training(model)),
        "## Evaluation\n\n" + _evaluation(model),
        _LIMITS,
        "## Files\n\n" + _files(sums),
        _CITATION,
    ]
    return "\n".join(parts)


def _front_matter(model: Pretrained) -> str:
    """The YAML that the hub reads. Text is quoted as JSON does it, which YAML reads too."""
    about = model.about
    inputs = [f"{what.removesuffix('s')}-input" for what in model.config.model.input.split("+")]
    tags = ["elmo", "jax", "flax", "word-embeddings", "language-model", *inputs]
    rows = [
        *_yaml("language", _listed(about.get("language"))),
        f"license: {json.dumps(str(about.get('license') or 'unknown'))}",
        "library_name: elmo_jax",
        "pipeline_tag: feature-extraction",
        *_yaml("tags", tags),
        *_yaml("metrics", ["perplexity"] if about.get("heldout") else []),
    ]
    return "\n".join(["---", *rows, "---", ""])


def _yaml(name: str, values: list[str]) -> list[str]:
    return [f"{name}:", *(f"- {json.dumps(value)}" for value in values)] if values else []


def _introduction(model: Pretrained, dtype: str) -> str:
    config, lstm = model.config.model, model.config.model.lstm
    what = "A language model in both directions" if config.bidirectional else "A language model from left to right"
    characters = "reads the characters of words, so that it knows every word,"
    reads = "reads whole words," if config.input == "words" else characters
    sizes: dict[str, int] = {}
    for path, leaf in flatten_dict(model.params, sep="/").items():
        part = path.split("/")[0]
        name = {"encoder": "token encoder", "softmax": "softmax"}.get(part, "LSTMs")
        sizes[name] = sizes.get(name, 0) + int(np.size(leaf))
    width = lstm.projection_dim * len(config.directions)
    words = f"{len(model.vocabulary):,}" if model.vocabulary is not None else NOT_KNOWN
    softmax = f"{config.softmax.kind}, {words} words" if "softmax" in model.params else "none: vectors only"
    rows = {
        "parameters": f"{sum(sizes.values()):,} ({', '.join(f'{name} {n:,}' for name, n in sizes.items())})",
        "LSTMs": f"{lstm.n_layers} layers of {lstm.dim:,} cells, projected to {lstm.projection_dim:,}",
        "input": _input(model),
        "vectors": f"{lstm.n_layers + 1} layers of width {width:,}, the token encodings first",
        "stored numbers": dtype if dtype == "float32" else f"{dtype}, rounded from float32",
        "softmax": softmax,
        "vocabulary": words if model.vocabulary is None else f"{words} words",
        "learnt mixtures of layers": f"{len(model.mixes)}" if model.mixes else "none",
        "tokeniser": _tokenizer(model),
    }
    sentence = (
        f"{what} {reads} and the states of its LSTM layers are vectors: a word has another one in every sentence."
    )
    return f"An ELMo (deep contextualized word representations, Peters et al. 2018).\n{sentence}\n\n{_table(rows)}"


def _input(model: Pretrained) -> str:
    config, cnn = model.config.model, model.config.model.char_cnn
    if config.input == "words":
        return "words of the vocabulary; all others are `<UNK>`"
    most, sizes = cnn.max_characters_per_token - 2, config.dictionaries
    unit = "UTF-8 bytes" if config.input == "characters" else f"{sizes.n_characters:,} code points of `char.dic`"
    filters = f"{cnn.n_filters:,} filters of widths {', '.join(str(width) for width, _ in cnn.filters)}"
    spelt = f"characters ({unit}, at most {most} a word), {filters}, {cnn.n_highway} highway layers"
    words = f"{sizes.n_words:,} words of `word.dic`, {sizes.word_dim:,} numbers each"
    parts = {spelt: config.input == "characters" or sizes.n_characters, words: sizes.n_words}
    return "; ".join(part for part, there in parts.items() if there)


def _tokenizer(model: Pretrained) -> str:
    data = model.config.data
    recorded = model.vocabulary.tokenizer if model.vocabulary is not None else None
    if not model.segmentation_known:
        return f"{NOT_KNOWN}: give it tokens such as those of its training text"
    tokens = recorded or (f"moses {data.language}" if data.tokenizer == "moses" else data.tokenizer)
    meaning = {"whitespace": " (text that is tokenised already)", "unicode": " (words of Unicode, UAX 29)"}.get(
        tokens, ""
    )
    sentences = "one a line" if data.sentences == "lines" else "found by the rules of Unicode"
    return f"{tokens}{meaning}, no change of case; sentences {sentences}"


def _training(model: Pretrained) -> dict[str, str]:
    about, config = model.about, model.config
    rows = {
        "text": str(about.get("text") or NOT_KNOWN),
        "tokens of the text": _number(about.get("text_tokens")),
        "sentences of the text": _number(about.get("text_sentences")),
        "tokens seen": _number(about.get("tokens_seen")),
        "started from": str(about.get("init_from") or ("random weights" if model.training_known else NOT_KNOWN)),
        **{str(name): json.dumps(value) for name, value in about.items() if name not in KNOWN},
    }
    if not model.training_known:
        return {**rows, "settings": f"{NOT_KNOWN}, but for what `config.json` has"}
    train, optimizer = config.train, config.optimizer
    averaged = f"; the average of the weights with decay {optimizer.ema_decay:g}" if optimizer.ema_decay else ""
    return {
        **rows,
        "steps": f"{model.step:,}, each of {train.batch_size:,} rows of {train.unroll_steps:,} tokens",
        "LSTM state": {
            "carried": "carried from sentence to sentence",
            "sentence": "from zero at every sentence",
            "random": f"from zero at a sentence with probability {train.reset_probability:g}",
        }[train.state],
        "optimiser": f"{optimizer.name}, {optimizer.schedule} schedule, gradients clipped at "
        f"{optimizer.all_clip_norm_val:g}{averaged}",
        "dropout": f"{config.model.dropout:g}",
        "settings": f"all in `config.json`; elmo_jax {elmo_jax.__version__}",
    }


def _evaluation(model: Pretrained) -> str:
    results = [result for result in _listed(model.about.get("heldout")) if isinstance(result, Mapping)]
    if not results:
        return f"The perplexity on held-out text is {NOT_KNOWN}.\n"
    lines = [
        "| LSTM state | perplexity | forward | backward | predictions a direction | unknown words |",
        "|---" * 6 + "|",
    ]
    for result in results:
        carried = f"carried over {result.get('streams')} streams" if result.get("streams") else "stateless"
        values = [_decimal(result.get(f"perplexity{direction}")) for direction in ("", "_forward", "_backward")]
        unknown = f"{100 * result.get('oov_rate', 0.0):.2f} %"
        lines.append(f"| {carried} | {' | '.join(values)} | {_number(result.get('predictions'))} | {unknown} |")
    return "\n".join(
        [
            *lines,
            "",
            "On held-out text, under the full normalised distribution, every word and one boundary a sentence counted.",
            "Words out of the vocabulary are scored as `<UNK>`: models with other vocabularies do not compare.",
            "",
        ]
    )


def _use(model: Pretrained, folder: str) -> str:
    width = model.config.model.lstm.projection_dim * len(model.config.model.directions)
    shape = (model.config.model.lstm.n_layers + 1, 6, width)
    lines = [
        "## Use",
        "",
        "With the Python package elmo_jax; the name is that of this folder, or its id on the hub:",
        "",
        "```python",
        "from elmo_jax.embed import Embedder",
        "",
        f"embedder = Embedder.from_pretrained({json.dumps(folder)})",
        '[vectors] = embedder.embed([["Every", "word", "has", "a", "vector", "."]])',
        f"assert vectors.shape == {shape}  # layers, words, width",
        "```",
        "",
    ]
    if model.dictionaries is None:
        lines += ["For bilm-tf, AllenNLP and what else reads their files:", ""]
        lines += ["```sh", f"elmo export {folder} exported --format bilm-tf", "```", ""]
    if "softmax" in model.params and model.vocabulary is not None:
        lines += ["Its perplexity on text of yours:", "", "```sh", f"elmo eval {folder} --text text.txt", "```", ""]
    return "\n".join(lines)


_LIMITS = """\
## Limits

The vectors are best on text like the training text: of its language, domain, time and tokenisation. A model learns the
associations in its text, those about groups of people among them, and vectors carry them on into what is built on top:
measure that for your use. Probabilities say what is usual in such text, not what is true. Whether the model is fit for
uses that affect people is not known.
"""

_CITATION = """\
## Citation

```bibtex
@inproceedings{peters-etal-2018-deep,
  title = {Deep Contextualized Word Representations},
  author = {Peters, Matthew E. and Neumann, Mark and Iyyer, Mohit and Gardner, Matt and Clark, Christopher and
            Lee, Kenton and Zettlemoyer, Luke},
  booktitle = {Proceedings of NAACL-HLT},
  year = {2018}
}
```
"""


def _files(sums: Mapping[str, tuple[int, str]]) -> str:
    lines = ["| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| `{name}` | {size:,} | `{digest}` |" for name, (size, digest) in sums.items()]
    return "\n".join(
        [*lines, "", "`SHA256SUMS` has them too: `sha256sum --check SHA256SUMS`. elmo_jax checks them.", ""]
    )


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""])


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else NOT_KNOWN


def _decimal(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "-"
