"""A first result without a download: the documentation inside every Python, a tiny model, minutes on two CPU cores.

    python train.py --config configs/quickstart.py

About 300 thousand tokens, four epochs: five to nine minutes, held-out perplexity about 76.
"""

from elmo_jax.config import LSTM, CharCNN, Checkpoint, Config, Data, Evaluation, Model, Optimizer, Train


def get_config() -> Config:
    """The quick-start run."""
    return Config(
        run_dir="runs/quickstart",
        model=Model(
            char_cnn=CharCNN(filters=((1, 32), (2, 32), (3, 64), (4, 128)), n_highway=1),
            lstm=LSTM(dim=256, projection_dim=64),
        ),
        data=Data(source="pydoc", min_count=2),
        train=Train(batch_size=32, unroll_steps=20, n_epochs=4, state="random"),
        optimizer=Optimizer(learning_rate=0.004),
        evaluation=Evaluation(every_steps=500),
        checkpoint=Checkpoint(every_steps=500),
    )
