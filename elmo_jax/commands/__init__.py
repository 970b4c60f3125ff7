"""The commands of ``elmo``, one a file: what each takes and what it does.

A command module has ``NAME``, ``SUMMARY`` and ``DETAILS`` for its help, ``add_arguments(parser)`` and
``run(options) -> exit status``. What ``run`` needs is imported when it runs: ``elmo --help`` answers at once.
"""

from elmo_jax.commands import (
    embed,
    encode,
    evaluate,
    export,
    import_model,
    models,
    plot,
    prepare_lm1b,
    score,
    substitutes,
    tokens,
    train,
    vocab,
)

_TRAINING = (train, plot, evaluate)
_USING = (embed, tokens, score, substitutes)
_EXCHANGING = (models, import_model, export)
_TEXT = (vocab, encode, prepare_lm1b)
COMMANDS = (*_TRAINING, *_USING, *_EXCHANGING, *_TEXT)
