"""The published "small" ELMo (13.6 M parameters): 1024/128, two layers, one highway layer.

    python train.py --config elmo_small --config.data.train='1b/training/*' --config.data.heldout='1b/heldout/*'

Sizes and hyperparameters as published (Peters et al. 2018): Adagrad 0.2, clipping at norm 10, dropout 0.1, windows of
20, ten epochs.
"""

from elmo_jax.config import LSTM, PUBLISHED_OPTIMIZER, CharCNN, Config, Data, Model, Train


def get_config() -> Config:
    """The published run at the small size; give it your shards."""
    return Config(
        run_dir="runs/elmo_small",
        model=Model(char_cnn=CharCNN(n_highway=1), lstm=LSTM(dim=1024, projection_dim=128)),
        data=Data(source="text"),
        train=Train(batch_size=128, unroll_steps=20, n_epochs=10),
        optimizer=PUBLISHED_OPTIMIZER,
    )
