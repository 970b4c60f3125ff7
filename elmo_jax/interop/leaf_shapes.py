"""Which leaves the parameter tree of a configured model has, and whether some weights are those leaves."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
from flax.traverse_util import flatten_dict

from elmo_jax.config import Config, Model
from elmo_jax.errors import UserError
from elmo_jax.model.bilm import BiLM, smallest_inputs
from elmo_jax.model.clusters import Clusters

Shape = tuple[int, ...]


def check_shapes(found: Mapping[str, Shape], config: Config, n_words: int | None, where: str, fix: str) -> None:
    """Refuse leaves that are not those of the configured model; only the whole softmax may be absent.

    Args:
        found: shapes by path.
        config: of the model.
        n_words: of the vocabulary; None where there is none.
        where: what has these leaves, for the error.
        fix: what to do, for the error.

    Raises:
        UserError: naming a leaf that is missing, has no place or has another shape.
    """
    _refuse_vast(found, config.model, where, fix)
    expected = shapes(config.model, n_words or 1)
    if not any(name.startswith("softmax/") for name in found):
        expected = {name: shape for name, shape in expected.items() if not name.startswith("softmax/")}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise UserError(f"{where}: {name} {expected[name]} is missing; {fix}")
        if name not in expected:
            raise UserError(f"{where}: {name} {found[name]} has no place in the configured model; {fix}")
        if found[name] != expected[name]:
            raise UserError(f"{where}: {name} is {found[name]}, the configured model has {expected[name]}; {fix}")


def _refuse_vast(found: Mapping[str, Shape], model: Model, where: str, fix: str) -> None:
    """Refuse a configuration that declares a million layers before anybody traces them."""
    cnn = model.char_cnn
    characters = 0 if model.input == "words" else len(cnn.filters) + cnn.n_highway
    if model.lstm.n_layers + characters + len(model.softmax.cutoffs) > len(found):
        raise UserError(f"{where}: has {len(found)} tensors, too few for the configured model; {fix}")
    for i, (width, _) in enumerate(cnn.filters if model.input == "characters" else ()):
        name = f"encoder/cnn_{i}/kernel"
        if found.get(name, ())[:1] != (width,):
            shown = found.get(name, "missing")
            raise UserError(f"{where}: {name} is {shown}, the configured model has a filter of width {width}; {fix}")


@functools.lru_cache
def shapes(config: Model, n_words: int) -> Mapping[str, Shape]:
    """The shape of every leaf of a configured model, by its path, without computing any.

    Raises:
        UserError: when the clusters of its softmax do not fit the number of words, or a number is beyond all arrays.
    """
    cutoffs = config.softmax.cutoffs
    if cutoffs and cutoffs[-1] >= n_words:
        # Without words there is no softmax, and its leaves are not looked at.
        if n_words > 1:
            raise UserError(f"config.model.softmax.cutoffs is {cutoffs}: each must be below the {n_words} words")
        cutoffs = ()
    # No leaf depends on the length of tokens.
    shortest = max((width for width, _ in config.char_cnn.filters), default=1)
    cnn = dataclasses.replace(config.char_cnn, max_characters_per_token=shortest)
    config = dataclasses.replace(config, char_cnn=cnn)
    model, inputs = BiLM(config, Clusters(n_words, cutoffs)), lambda: smallest_inputs(config)
    try:
        tree = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs(), method="everything"))["params"]
    # What JAX says of dimensions that no array can have.
    except (OverflowError, TypeError, ValueError) as error:
        raise UserError(f"config.model describes no model that can be: {str(error).splitlines()[0]}") from error
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}
