"""The published ELMo ("original", 93.6 M parameters): 4096/512, two layers, two highway layers, on 1 Billion Word.

    python train.py --config elmo_original --config.data.train='1b/training/*' --config.data.heldout='1b/heldout/*'

Hyperparameters as published (Peters et al. 2018; bilm-tf): Adagrad 0.2 with accumulator 1, clipping at norm 10,
dropout 0.1, windows of 20, ten epochs, 128 rows on each of three GPUs. They trained for about two weeks on three GTX
1080 and report a perplexity of 39.7. The adaptive softmax takes the place of the published sampled one; for that:
--config.model.softmax.kind=sampled.
"""

from elmo_jax.config import PUBLISHED_OPTIMIZER, Config, Data, Model, Train


def get_config() -> Config:
    """The published run; give it your shards."""
    return Config(
        run_dir="runs/elmo_original",
        model=Model(),
        data=Data(source="text"),
        train=Train(batch_size=384, unroll_steps=20, n_epochs=10),
        optimizer=PUBLISHED_OPTIMIZER,
    )
