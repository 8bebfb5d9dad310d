"""The language of a catalogue, told from the titles of its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from retrieval.text.analysis.normalisation import normalised

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

NONE = "none"  # no language, or none that is known: words are compared as they are written
KNOWN = (
    "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it",
    "ja", "km", "ko", "lo", "lt", "lv", "my", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "th", "tr",
    "uk", "vi", "zh",
)  # fmt: skip
SAMPLED = 2_000  # titles that are read, evenly apart
SAMPLE_BYTES = 300  # of letters of titles that are judged together: the language of one title is a guess
FEWEST_BYTES = 20  # of the letters of all titles: a sign of Chinese is 3, and tells as much as 3 letters of English
LEAST_SHARE = 0.6  # of the samples that have to be of one language
REMEDY = "name it to a run by --set data.language=CODE, such as en"


class Language(NamedTuple):
    """The language of a catalogue, an ISO 639-1 code or NONE, and why it is taken for that.

    `has_text`: False where the titles hold next to no letters, as where ids stand for them.
    """

    code: str
    why: str
    has_text: bool = True

    def __str__(self) -> str:
        return f"{self.code} ({self.why})"


def language_of(titles: Sequence[str | None]) -> Language:
    """The language that most titles are in; NONE where they are too few to tell, or none has LEAST_SHARE of them.

    >>> language_of(["Herrenschuhe aus Leder", "Kaffeemaschine mit Mahlwerk", "Bettwäsche für Kinder, blau"]).code
    'de'
    """
    samples = list(_samples(titles))
    if sum(map(_size, samples)) < FEWEST_BYTES:
        return Language(NONE, f"the titles have too few letters to tell; {REMEDY}", has_text=False)
    counts = Counter(_identifier().classify(sample)[0] for sample in samples)
    (code, most), *_ = counts.most_common(1)
    if most < LEAST_SHARE * len(samples):
        found = ", ".join(f"{100 * n / len(samples):.0f} % {name}" for name, n in counts.most_common(3))
        return Language(NONE, f"the titles are in several languages, {found}; {REMEDY}")
    return Language(code, f"{most:,} of {len(samples):,} samples of the titles are in it")


def _samples(titles: Sequence[str | None]) -> Iterator[str]:
    """Normalised titles, joined until their letters have SAMPLE_BYTES."""
    step = max(1, len(titles) // SAMPLED)
    joined, size = list[str](), 0
    for title in titles[::step]:
        joined.append(normalised(title or ""))
        size += _size(joined[-1])
        if size >= SAMPLE_BYTES:
            yield ". ".join(joined)
            joined, size = [], 0
    if size:
        yield ". ".join(joined)


def _size(text: str) -> int:
    """The bytes of its letters."""
    return len("".join(filter(str.isalpha, text)).encode("utf-8", "replace"))


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(KNOWN)
    return identifier
