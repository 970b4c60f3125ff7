"""The published "medium" ELMo (28.0 M parameters): 2048/256, two layers, one highway layer.

    python train.py --config elmo_medium --config.data.train='1b/training/*' --config.data.heldout='1b/heldout/*'

Sizes and hyperparameters as published (Peters et al. 2018): Adagrad 0.2, clipping at norm 10, dropout 0.1, windows of
20, ten epochs.
"""

from elmo_jax.config import LSTM, PUBLISHED_OPTIMIZER, CharCNN, Config, Data, Model, Train


def get_config() -> Config:
    """The published run at the medium size; give it your shards."""
    return Config(
        run_dir="runs/elmo_medium",
        model=Model(char_cnn=CharCNN(n_highway=1), lstm=LSTM(dim=2048, projection_dim=256)),
        data=Data(source="text"),
        train=Train(batch_size=128, unroll_steps=20, n_epochs=10),
        optimizer=PUBLISHED_OPTIMIZER,
    )
