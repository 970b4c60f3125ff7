"""Your own text: one tokenised sentence a line, any number of shards, plain or .gz.

    python train.py --config configs/text.py --config.data.train='my/train-*.txt' --config.data.heldout='my/valid.txt'

The size is that of the published small model, which one GPU trains comfortably; change it with
--config.model.lstm.dim and --config.model.lstm.projection_dim. The vocabulary is built from the training text: words
that occur at least twice.
"""

from elmo_jax.config import LSTM, CharCNN, Config, Data, Model, Train


def get_config() -> Config:
    """A model of your own text."""
    return Config(
        run_dir="runs/text",
        model=Model(char_cnn=CharCNN(n_highway=1), lstm=LSTM(dim=1024, projection_dim=128)),
        data=Data(source="text", min_count=2),
        train=Train(batch_size=128, unroll_steps=20, n_epochs=5, state="random"),
    )
