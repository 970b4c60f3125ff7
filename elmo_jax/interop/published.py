"""The ELMo models that others have published: where their files lie, and what is known of them.

Only what could be established is said: most publishers name no licence for their weights and no checksum, and then
there is none here.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from elmo_jax.errors import UserError

_ALLENNLP = "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo"
_GERMAN = "https://github.com/t-systems-on-site-services-gmbh/german-elmo-model/releases/download/files_1"
_NLPL = "http://vectors.nlpl.eu/repository/11"
# Its name here.
_SOFTMAX = "softmax_weights.hdf5"


@dataclass(frozen=True)
class File:
    """A file of a model.

    Attributes:
        name: that it gets here.
        address: where it was published.
        size: in bytes; None when nobody says.
        sha256: in hexadecimal digits; None when nobody says.
        language_model: whether it is for probabilities alone: vectors need it not.
    """

    name: str
    address: str
    size: int | None = None
    sha256: str | None = None
    language_model: bool = False


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: for the command line.
        language: of its text.
        text: what it was trained on.
        files: those of bilm-tf, or one zip archive of them.
        page: where it is described.
        kind: of the files: those of ELMoForManyLangs have to be imported.
        licence: of the weights, as the publisher states it; None when it is not stated.
    """

    name: str
    language: str
    text: str
    files: tuple[File, ...]
    page: str
    kind: Literal["bilm-tf", "ELMoForManyLangs"] = "bilm-tf"
    licence: str | None = None

    @property
    def size(self) -> int | None:
        """Bytes of what vectors need; None when nobody says."""
        sizes = [file.size for file in self.files if not file.language_model]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def has_softmax(self) -> bool:
        """Whether a softmax is published with it, which probabilities need."""
        return any(file.name == _SOFTMAX for file in self.files)

    @property
    def is_archive(self) -> bool:
        """Whether its only file is an archive that is unpacked."""
        return self.files[0].name.endswith(".zip")


def _english(name: str, folder: str, text: str, softmax: str, vocabulary: str) -> Published:
    """One of AllenNLP's own, whose folder and files bear the architecture."""
    original, file = name == "original", f"{_ALLENNLP}/{folder}/elmo_{folder}"
    files = (
        File("options.json", f"{file}_options.json", 336 if original else None),
        File("weights.hdf5", f"{file}_weights.hdf5", 374_434_792 if original else None),
        *([File(_SOFTMAX, f"{file}_{softmax}", language_model=True)] if softmax else []),
        File("vocab.txt", f"{_ALLENNLP}/{vocabulary}", language_model=True),
    )
    return Published(name, "English", text, files, "https://allennlp.org/elmo")


def _pair(name: str, language: str, text: str, options: str, weights: str, page: str, licence: str = "") -> Published:
    files = (File("options.json", options), File("weights.hdf5", weights))
    return Published(name, language, text, files, page, licence=licence or None)


_LM1B, _LM1B_WORDS = "1 Billion Word benchmark", "2x4096_512_2048cnn_2xhighway/vocab-2016-09-10.txt"
_55B = "2x4096_512_2048cnn_2xhighway_5.5B"
_PUBMED = f"{_ALLENNLP}/contributed/pubmed/elmo_2x4096_512_2048cnn_2xhighway"

# The languages of ELMoForManyLangs, in the order of their numbers in the repository of NLPL, from 136.
_MANY_LANGUAGES = """
    Arabic, Bulgarian, Catalan, Czech, Old Church Slavonic, Danish, German, Greek, English, Spanish, Estonian, Basque,
    Persian, Finnish, French, Irish, Galician, Ancient Greek, Hebrew, Hindi, Croatian, Hungarian, Indonesian, Italian,
    Japanese, Korean, Latin, Latvian, Dutch, Norwegian Bokmål, Norwegian Nynorsk, Polish, Portuguese, Romanian, Russian,
    Slovak, Slovene, Swedish, Turkish, Uyghur, Ukrainian, Urdu, Vietnamese, Chinese
"""


def _many_languages() -> tuple[Published, ...]:
    languages = [" ".join(language.split()) for language in _MANY_LANGUAGES.split(",")]
    return tuple(
        Published(
            f"efml-{language.lower().replace(' ', '-').replace('å', 'a')}",
            language,
            "20 million words of Wikipedia and Common Crawl (CoNLL 2018)",
            (File("model.zip", f"{_NLPL}/{number}.zip"),),
            "https://github.com/HIT-SCIR/ELMoForManyLangs",
            "ELMoForManyLangs",
        )
        for number, language in enumerate(languages, 136)
    )


MODELS = (
    _english("small", "2x1024_128_2048cnn_1xhighway", _LM1B, "", _LM1B_WORDS),
    _english("medium", "2x2048_256_2048cnn_1xhighway", _LM1B, "", _LM1B_WORDS),
    _english("original", "2x4096_512_2048cnn_2xhighway", _LM1B, "softmax_weights.hdf5", _LM1B_WORDS),
    _english(
        "original-5.5b",
        _55B,
        "Wikipedia and news of WMT, 5.5 billion tokens",
        "softmax_weights.hdf5",
        f"{_55B}/tf_checkpoint/vocab-enwiki-news-500000.txt",
    ),
    _pair(
        "pubmed",
        "English",
        "abstracts of PubMed",
        f"{_PUBMED}_options.json",
        f"{_PUBMED}_weights_PubMed_only.hdf5",
        "https://allennlp.org/elmo",
    ),
    _pair(
        "portuguese",
        "Portuguese",
        "not stated",
        f"{_ALLENNLP}/contributed/pt/elmo_pt_options.json",
        f"{_ALLENNLP}/contributed/pt/elmo_pt_weights.hdf5",
        "https://allennlp.org/elmo",
    ),
    _pair(
        "japanese",
        "Japanese",
        "not stated",
        "https://exawizardsallenlp.blob.core.windows.net/data/options.json",
        "https://exawizardsallenlp.blob.core.windows.net/data/weights.hdf5",
        "https://allennlp.org/elmo",
    ),
    _pair(
        "german",
        "German",
        "Wikipedia with its comments, 963 million tokens",
        f"{_GERMAN}/options.json",
        f"{_GERMAN}/weights.hdf5",
        "https://github.com/t-systems-on-site-services-gmbh/german-elmo-model",
        "BSD-2-Clause (of its repository)",
    ),
    _pair(
        "basque",
        "Basque",
        "not stated",
        "https://schweter.eu/cloud/eu-elmo/options.json",
        "https://schweter.eu/cloud/eu-elmo/weights.hdf5",
        "https://allennlp.org/elmo",
    ),
    Published(
        "russian-lemmas",
        "Russian",
        "Wikipedia and the Russian National Corpus, lemmas",
        (File("model.zip", f"{_NLPL}/196.zip"),),
        "https://rusvectores.org/en/models/",
    ),
    *_many_languages(),
)


def find(name: str) -> Published:
    """The published model of a name.

    Raises:
        UserError: when there is none.
    """
    by_name = {model.name: model for model in MODELS}
    if name not in by_name:
        close = difflib.get_close_matches(name.lower(), by_name, n=1)
        guess = f"did you mean {close[0]!r}?" if close else "`elmo models` lists them"
        raise UserError(f"no published model {name!r}: {guess}")
    return by_name[name]
