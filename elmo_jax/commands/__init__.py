"""The commands of ``elmo``, one a file: what each takes and what it does.

A command module has ``NAME``, ``SUMMARY`` and ``DETAILS`` for its help, ``add_arguments(parser)`` and
``run(options) -> exit status``. What ``run`` needs is imported when it runs: ``elmo --help`` answers at once.
"""

from elmo_jax.commands import (
    embed,
    encode,
    evaluate,
    export,
    plot,
    prepare_lm1b,
    score,
    substitutes,
    tokens,
    train,
    vocab,
)

COMMANDS = (train, plot, evaluate, export, embed, tokens, score, substitutes, vocab, encode, prepare_lm1b)
