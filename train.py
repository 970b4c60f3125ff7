"""Pretrain an ELMo language model: ``python train.py --config configs/elmo_small.py --config.data.train='corpus/*.txt'``.

The same program as ``elmo train``; ``python train.py --help`` says everything else.
"""

import sys

from elmo_jax.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
