"""A tiny ELMo for experiments on a CPU: 256/64, two layers, one highway layer, narrow filters.

    python train.py --config elmo_tiny --config.data.train='corpus/train-*.txt' --config.data.heldout=corpus/valid.txt

Three million tokens of English books: held-out perplexity 146 with a vocabulary of 50,000 words (docs/training.md), in
half an hour on two CPU cores.
"""

from elmo_jax.config import LSTM, CharCNN, Config, Data, Model, Optimizer, Train


def get_config() -> Config:
    """One epoch at the tiny size; give it your shards."""
    return Config(
        run_dir="runs/elmo_tiny",
        model=Model(
            char_cnn=CharCNN(filters=((1, 32), (2, 32), (3, 64), (4, 128)), n_highway=1),
            lstm=LSTM(dim=256, projection_dim=64),
        ),
        data=Data(source="text"),
        train=Train(batch_size=32, unroll_steps=20, n_epochs=1, state="random"),
        optimizer=Optimizer(learning_rate=0.008),
    )
