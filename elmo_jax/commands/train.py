"""``elmo train``: pretrain a model, or go on with a run."""

import argparse

from elmo_jax.exit_status import COMPLETE, EXPLANATION

NAME = "train"
SUMMARY = "Pretrain a model, or go on with a run."
DETAILS = f"""\
Any field of the configuration is set by its path. The same command again goes on where the run stopped; a larger
--config.train.n_steps trains a finished run longer.

  elmo train --config quickstart
  elmo train --config quickstart --dry-run
  elmo train --config configs/text.py --config.data.train='my/*.txt' --config.data.heldout=valid.txt
  elmo train --config elmo_small --config.model.lstm.dim=2048 --config.train.batch_size=256 ...
  elmo train --config elmo_tiny --config.run_dir=runs/b --config.init_from=runs/a ...

{EXPLANATION}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="an experiment: a file, or the name of a shipped one"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--show-config", action="store_true", help="print the configuration as JSON and do nothing else"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="do all but the steps: encode the text, compile, tell the memory it takes; touches no run directory",
    )


def run(options: argparse.Namespace) -> int:
    """Pretrain a model, or go on with a run."""
    from elmo_jax import config_io

    config = config_io.experiment(options.config)
    for path, text in options.overrides:
        config = config_io.override(config, path, text)
    config.validate()
    if options.show_config:
        print(config_io.to_json(config), end="")
        return COMPLETE
    from elmo_jax import allocator, compilation_cache

    if options.is_program:
        allocator.use_huge_pages()
    allocator.keep_memory()
    compilation_cache.enable(config.compilation_cache)
    if options.dry_run:
        from elmo_jax.train.dry_run import dry_run

        return dry_run(config)
    from elmo_jax.train.pretrain import pretrain

    return pretrain(config)
