"""Know the words that make a number something else: that deny it, hedge it, bound it or scale it, in many languages.

`languages.toml` holds them, a table per language, and says where a word counts. A text is judged by the words of all
languages at once; which language it is in is not guessed. A word or phrase of five letters or more counts without its
accents, too. The table is read when it is first needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

# Scripts without spaces between words: Thai to Burmese, Khmer, and Chinese with Japanese. Digits are not among them.
SPACELESS: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecf\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u3041-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々"
)
# Letters and the marks on them, without signs and without digits. The last ones are units in one character: ㎏, ℃.
LATIN: Final = "A-Za-zµÀ-ÖØ-öø-ɏə\u1e00-\u1eff"
LETTER: Final = (
    f"{LATIN}\u0370-\u0373\u0376-\u037d\u0386\u0388-\u03ff\u0400-\u0481\u048a-\u052f\u1f00-\u1fff\u0531-\u0587\u0591-\u05f4"
    "\u0620-\u0658\u0670-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06ff\u0750-\u077f\u0900-\u0963"
    "\u0971-\u09e3\u09f0-\u09f1\u0a01-\u0a65\u0a70-\u0ae3\u0b01-\u0b65\u0b71-\u0be5\u0c00-\u0c65\u0c80-\u0ce5\u0d00-\u0d65\u0d7a-\u0de5"
    "\u0df2-\u0df3\u10a0-\u10ff\u1100-\u11ff\u1200-\u135a\uac00-\ud7a3\u3371-\u33df℃℉ℓΩ" + SPACELESS
)
_WORD: Final = f"[{SPACELESS}]{{1,2}}|[{LETTER}]+"

FILLERS: Final = frozenset(
    re.findall(
        r"\w+",
        """de di du des do da dos das della del dei que a à ai alle al el la le los las les en em os i o com
        an of the than as to als dan van af av ur på för ya na sa ng yang dari od iz z ze za din lui lei kui
        nei kot nego ako než nez niż niz nekā kaip kuin hogy že że se чем из от с к в απο από του της των το
        στα στο στη τα για να von med der dem den die të من به از که لـ ب ה של את""",
    )
)
# What marks an ordinal right behind a number, in languages other than English: 18ème, 18-й, 18'inci.
ORDINAL: Final = (
    r"(?i)[-:.'’\s]?(?:i?[eè]me|esim[oa]|edik|[ıiuü]?nc[ıiuü]|ος|वां|वाँ|वीं|वें|তম|ম|వ|వది|واں|ویں|م|ام|اُم)(?![\w\u0900-\u0dff])"
    r"|-?(?:й|го|му|ая|ое|ой|ый|ий|ти)(?!\w)|[-:](?:я|е|х|ми|та|то|тен)(?!\w)"
    r"|[-:](?:st|nd|rd|th|ste|te|de|ty|tý|tá|té|a|e|lea|ish|odd|ta|ti|ik|os|es|tal|s|an(?!-)|first|ki|ci)(?!\w)|\s(?:th|nd|rd)(?!\w)"
)
# First names that are doubtful words elsewhere: "Mai: 18" is what Mai has.
_NAMED: Final = (
    r"\b(?:Ali|Asi|Cam|Dan|Demi|Hadi|Kati|Mai|Mas|Max|Maxim|Min|Nad|Nu|Piu|Pola|Soha|Tai|Tra)(?:['’]s)?:\s*\Z"
)
NEGATED: Final = (
    r"(?i)n['’]t\b|\.\.\.|…|\band (?:an?|one) (?:half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)\b"
    r"|[a-z][а-яё]|[а-яё][a-z]"  # a word in two scripts
)

_UNITS: Final = re.findall("[a-z]+", "one two three four five six seven eight nine")
_TEENS: Final = re.findall("[a-z]+", "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS: Final = re.findall("[a-z]+", "twenty thirty forty fifty sixty seventy eighty ninety")
NUMBER_WORDS: Final = {
    "zero": 0,
    **{word: value for value, word in enumerate(_UNITS, 1)},
    **{word: value for value, word in enumerate(_TEENS, 10)},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
}
# twenty-five, too
NUMBER_WORD: Final = (
    rf"(?i)(?<![{LETTER}0-9])(?:(?P<tens>{'|'.join(_TENS)})(?:[-‐ ](?P<ones>{'|'.join(_UNITS)}))?"
    rf"|(?P<word>zero|{'|'.join([*_UNITS, *_TEENS])}))(?![{LETTER}0-9])"
)
SCALES: Final = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}

MOST_NUMERALS: Final = 20
_NEAR: Final = 100  # characters in which the last words before a number are looked for
_MARKS: Final = frozenset("0$")  # in a phrase, the number, and the end of the text
_LEAST_WITHOUT_ACCENTS: Final = 5  # letters: shorter words would be others, as até and ate


class _Lookup(NamedTuple):
    """The words of one kind, of all languages together: whole words, beginnings of words, and phrases.

    A beginning is found by its first letter, and a phrase by its first word; the number in it is `0`.
    """

    whole: frozenset[str]
    stems: dict[str, tuple[str, ...]]
    phrases: dict[str, list[str]]

    def has(self, words: Sequence[str]) -> bool:
        """Tell whether any of `words`, or a phrase in them, is one of these."""
        if not self.whole.isdisjoint(words) or any(word.startswith(self.stems.get(word[:1], ())) for word in words):
            return True
        begun = [phrase for word in words for phrase in self.phrases.get(word, ())]
        text = f" {' '.join(words)} $ " if begun else ""
        return any(f" {phrase} " in text for phrase in begun)


@lru_cache(maxsize=1)
def word_tables() -> dict[str, dict[str, str]]:
    """Return the tables of languages.toml: by language, the words by where they count."""
    import tomllib
    from importlib.resources import files

    return tomllib.loads(files("grpo_colab.rewards").joinpath("languages.toml").read_text("utf-8"))


@lru_cache(maxsize=4)
def _lookup(kind: str) -> _Lookup:
    """Return the words of all languages that count in one place: anywhere, next_to or after."""
    rows = [row.get(kind, "").replace("N", "0") for row in word_tables().values()]
    entries = {entry for row in rows for entry in _folded(row).split()}
    entries |= {plain for entry in entries if len(plain := _without_accents(entry)) >= _LEAST_WITHOUT_ACCENTS}
    stems: dict[str, tuple[str, ...]] = {}
    phrases: dict[str, list[str]] = {}
    for entry in entries:
        if entry.endswith("*"):
            stems[entry[0]] = (*stems.get(entry[0], ()), entry[:-1])
        elif "_" in entry:
            phrase = entry.split("_")
            phrases.setdefault(next(word for word in phrase if word not in _MARKS), []).append(" ".join(phrase))
    return _Lookup(frozenset(entry for entry in entries if "*" not in entry and "_" not in entry), stems, phrases)


def _without_accents(word: str) -> str:
    """Return a word of a European language without its accents; of other scripts, marks are letters."""
    import unicodedata

    if not re.fullmatch(f"[{LATIN}\u0370-\u03ff_*]+", word):
        return word
    parts = unicodedata.normalize("NFD", word)
    return "".join(part for part in parts if not unicodedata.combining(part))


@lru_cache(maxsize=1)
def _parts() -> re.Pattern[str]:
    """Return the pattern of the parts of words that doubt, in which `0` is the number."""
    parts = [part for row in word_tables().values() for part in row.get("parts", "").split()]
    return re.compile("|".join(parts).replace("N", "0"))


def words(text: str) -> list[str]:
    """Return the words of `text`, in lower case; of a script without spaces, pieces of one or two characters."""
    return re.findall(_WORD, _folded(text))


def _folded(text: str) -> str:
    """Return `text` in lower case, with one letter for the two kinds of Turkish i."""
    return text.lower() if text.isascii() else text.casefold().replace("ı", "i").replace("\u0307", "")


def is_doubtful(text: str) -> bool:
    """Tell whether a word in `text` denies, hedges, bounds or scales what stands in it, in any language.

    Words that must touch the number are looked for at the first `MOST_NUMERALS` numerals of `text`.
    """
    pieces = ["0" if piece[0].isdigit() else piece for piece in re.findall(f"{_WORD}|[0-9][0-9.,]*", _folded(text))]
    if _lookup("anywhere").has(pieces) or _has_doubtful_part(text) or re.search(NEGATED, text):
        return True
    numerals = islice(re.finditer(r"[0-9][0-9.,]*", text), MOST_NUMERALS)
    return any(follows_doubt(text[: n.start()]) or _precedes_doubt(text[n.end() :]) for n in numerals)


def changes_meaning(before: str, left: str, right: str) -> bool:
    """Tell whether the words around a number deny, hedge, bound or scale it, in any language.

    `left` and `right` are the texts on both sides of it, and `before` is what stands before these three.
    """
    if ":" in left:
        left = re.sub(_NAMED, "", left)
    close, trailing = words(left), words(right)
    return (
        _lookup("anywhere").has([*(words(before) if before else ()), *close, "0", *trailing])
        or follows_doubt(left)
        or _precedes_doubt(right)
        or bool(re.search(NEGATED, f"{before} {left} {right}"))
        or _has_doubtful_part(f"{before} {left}0{right}")
    )


def denies_what_follows(left: str) -> bool:
    """Tell whether the last word of `left`, but for fillers, denies, hedges or bounds what follows it."""
    *_, last = re.split(r"[.,;!?=\n]", re.sub(r"\\[A-Za-z]+", " ", left))
    close = [word for word in words(last) if word not in FILLERS | {"be", "equal"}]
    return (
        follows_doubt(last)
        or _lookup("anywhere").has(close[-1:])
        or bool(re.search(r"n['’]t\W*\Z", last))
        or _has_doubtful_part(f"{last[-8:]}0")
    )


def follows_doubt(left: str) -> bool:
    """Tell whether the last word of `left`, but for fillers such as "of the", makes what follows it doubtful."""
    if re.search(r":[\s`*$(]*\Z", left[-10:]):  # a label: "Quarters: 18"
        return False
    doubtful = _lookup("next_to")
    for word in reversed(words(left[-_NEAR:])[-3:]):  # two fillers at most
        if doubtful.has([word]):
            return True
        if word not in FILLERS:
            break
    return False


def _precedes_doubt(right: str) -> bool:
    """Tell whether the first word of `right` makes what stands before it doubtful, or an ordinal."""
    return _lookup("after").has(words(right)[:1]) or bool(re.match(ORDINAL, right))


def _has_doubtful_part(text: str) -> bool:
    """Tell whether a text, in which `0` stands for the number, has a part of a word that doubts."""
    return not text.isascii() and bool(_parts().search(re.sub(r"[0-9]+", "0", text)))
