"""Pretrain an ELMo language model: ``python train.py --config configs/quickstart.py``.

The same program as ``elmo train``; ``python train.py --help`` says everything else.
"""

import sys

from elmo_jax.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
