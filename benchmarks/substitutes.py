"""How well the word that stood in a slot is found from both of its contexts, for ways to bring them together.

    python benchmarks/substitutes.py MODEL TEXT [sentences]

Every known word of the first sentences of TEXT is a slot. A line of JSON for each exponent of p(w) in
``p(w | left) p(w | right) / p(w)^prior``: the perplexity of the true words under that distribution, their mean
reciprocal rank, and how many of them are the first and among the first ten.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from elmo_jax.data.text import read_lines
from elmo_jax.scoring.scorer import Scorer
from elmo_jax.scoring.substitutes import Substitutes

PRIORS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Measure every prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("sentences", type=int, nargs="?", default=300)
    options = parser.parse_args()
    scorer = Scorer.from_pretrained(options.model)
    lines = read_lines([options.text])
    sentences = [tokens for line in lines for tokens in scorer.segmentation(line)][: options.sentences]
    for prior in PRIORS:
        slots = [slot for slot in Substitutes(scorer, prior).find(sentences, k=1) if slot.rank is not None]
        ranks = np.array([slot.rank for slot in slots])
        perplexity = np.exp(-np.mean([slot.token_log_prob for slot in slots]))
        found = {
            "prior": prior,
            "slots": len(slots),
            "perplexity": round(float(perplexity), 2),
            "mean_reciprocal_rank": round(float((1 / ranks).mean()), 4),
            "first": round(float((ranks == 1).mean()), 4),
            "first_ten": round(float((ranks <= 10).mean()), 4),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
