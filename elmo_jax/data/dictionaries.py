"""The dictionaries by which models of ELMoForManyLangs read tokens: ids of characters and of words (ELMO_SPEC 2.14).

Each is a file of lines ``entry<TAB>id``. ELMoForManyLangs strips a line before it reads it, which leaves a blank entry
with its id alone: such a line means U+3000, the ideographic space.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elmo_jax import config
from elmo_jax.data.lines import BOS, EOS
from elmo_jax.data.vocab import UNK, Vocabulary
from elmo_jax.errors import UserError

CHARACTERS_FILE, WORDS_FILE = "char.dic", "word.dic"
FILES = frozenset({CHARACTERS_FILE, WORDS_FILE})

OOV, PAD, BEGIN_OF_WORD, END_OF_WORD = "<oov>", "<pad>", "<bow>", "<eow>"
# The boundaries of a sentence by their names here, and in the dictionaries.
BOUNDARIES = {BOS: "<bos>", EOS: "<eos>"}

_BLANK = "\u3000"


@dataclass(frozen=True)
class Dictionaries:
    """Ids of characters (code points and marks) and of words; None where the model does not read them."""

    characters: Mapping[str, int] | None
    words: Mapping[str, int] | None

    @classmethod
    def load(cls, directory: Path, sizes: config.Dictionaries) -> "Dictionaries":
        """Read ``char.dic`` and ``word.dic`` of a directory, those that the model has.

        Args:
            directory: of the files.
            sizes: of the tables of the model: no id may be beyond them.

        Raises:
            UserError: naming file and line, for what is missing or no dictionary of this model.
        """
        marks = (OOV, PAD, BEGIN_OF_WORD, END_OF_WORD, *BOUNDARIES.values())
        specials = (OOV, *BOUNDARIES.values())
        return cls(
            _read(directory / CHARACTERS_FILE, sizes.n_characters, marks) if sizes.n_characters else None,
            _read(directory / WORDS_FILE, sizes.n_words, specials) if sizes.n_words else None,
        )

    def save(self, directory: Path) -> None:
        """Write what ``load`` reads."""
        for name, entries in ((CHARACTERS_FILE, self.characters), (WORDS_FILE, self.words)):
            if entries is not None:
                lines = (f"{entry}\t{number}\n" for entry, number in entries.items())
                (directory / name).write_text("".join(lines), encoding="utf-8", newline="\n")

    def vocabulary(self) -> Vocabulary | None:
        """The words in the order of their ids, with the names that specials have here.

        None when there are no words, or their ids are not 0, 1, 2, ... each once: then no softmax can be read by them.
        """
        if self.words is None or sorted(self.words.values()) != list(range(len(self.words))):
            return None
        ours = {**{theirs: name for name, theirs in BOUNDARIES.items()}, OOV: UNK}
        return Vocabulary([ours.get(word, word) for word in sorted(self.words, key=self.words.__getitem__)])


def _read(file: Path, size: int, needed: tuple[str, ...]) -> dict[str, int]:
    try:
        text = file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; no token can be read without it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: invalid UTF-8 at byte {error.start}; fetch it again") from error
    entries: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        entry, _, digits = line.strip().rpartition("\t")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
            raise UserError(f"{file}:{number}: {line[:40]!r} is no entry, a tab and an id; fetch the file again")
        if int(digits) >= size:
            raise UserError(f"{file}:{number}: id {digits} is beyond the {size} rows of the model: it is of another")
        entries[entry or _BLANK] = int(digits)
    missing = [name for name in needed if name not in entries]
    if missing:
        raise UserError(f"{file} has no {missing[0]} among its {len(entries)} entries; fetch it again")
    return entries
