"""Words in texts of any language: splits, counts and compares them.

Chinese, Japanese, Thai and others write no spaces between words. There a character counts as a part of a word, and
texts are compared by pairs or triples of characters, as search engines do.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

_CHINESE = r"\p{Han}"
_KANA = r"\p{Hiragana}\p{Katakana}\u30fc"
_SOUTHERN = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_DENSE = _CHINESE + _KANA + _SOUTHERN
_SHARES = ((regex.compile(f"[{_CHINESE}]"), 0.6), (regex.compile(f"[{_KANA}]"), 0.4))
_SHARE = 0.25
"""Share of a word that a southern character makes up: a Thai word has about four, a Chinese one or two."""
_CHARACTER = regex.compile(rf"[{_DENSE}]\p{{M}}*")
_TOKEN = regex.compile(rf"(?V1)[{_DENSE}]\p{{M}}*|[\w--[{_DENSE}]]+")
_LETTERS = regex.compile(rf"(?V1)[{_DENSE}]+|\p{{Hangul}}+|[[\p{{L}}\p{{M}}]--[{_DENSE}\p{{Hangul}}]]{{3,}}")
_FAMILIES = (
    (regex.compile(rf"[{_SOUTHERN}]"), 3),
    (regex.compile(rf"[{_CHINESE}{_KANA}]"), 2),
)
_BEGINNINGS = ((regex.compile(r"\p{Latin}"), 5), (regex.compile(r"\p{Hangul}"), 2), (regex.compile(r""), 4))
"""Characters of a word that stay where its ending changes."""
_GAP = regex.compile(rf"(?<=[{_DENSE}]\p{{M}}*) (?=[{_DENSE}])")
_WORD = regex.compile(r"\w")

_EASTERN_STOPS = "\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965\u104b\u1362\u17d4"
_CLOSERS = "\u300d\u300f\u201d\u2019\uff09\u3011\u300b\u3009)\"'\u00bb"
STOPS = tuple(".!?:;" + _EASTERN_STOPS + "\uff1a\uff1b")
"""Characters at the end of a line whose sentence ends there."""
_SHORT = (
    *("[Ee]\\.g", "[Ii]\\.e", "etc", "vs"),
    *("[Zz]\\. ?B", "[Dd]\\. ?h", "[Uu]\\. ?a", "bzw", "usw", "[Pp]\\. ?(?:ej|ex)"),
    *("[\u0442\u0422]\\. ?[\u0435\u0434\u043f\u043a]", "\u043d\u0430\u043f\u0440"),  # Russian: that is, and so on
)
SENTENCE_END = regex.compile(
    rf"(?<=[.!?])(?<!\b(?:{'|'.join(_SHORT)})\.)(?!(?<=\b[Zz]\.) B\.)[ \t]+"
    r"(?=[\p{Lu}\p{Lt}\p{Lo}]|[`\"'(*\[\u00ab\u201c\u201e\u00bf\u00a1])"
    rf"|(?<=[{_EASTERN_STOPS}])(?![{_CLOSERS}{_EASTERN_STOPS}])[ \t]*"
    rf"|(?<=[{_EASTERN_STOPS}][{_CLOSERS}]+)[ \t]+"
)
"""Between two sentences of one line: after a full stop, unless that belongs to an abbreviation."""

# To forbid something, in the languages that prompts are mostly written in.
_FORBIDS = regex.compile(
    r"\b(?:not|never|no|without|avoid|cannot"
    r"|nicht|nie|niemals|kein\w*|ohne|vermeide\w*|ne|pas|jamais|sans|évite\w*|nunca|sin|evit\w+|não|sem|non|mai|senza"
    r"|niet|nooit|geen|zonder|nie|nigdy|bez|değil|asla|không|đừng|tránh"
    r"|не|нет|без|никогда|нельзя|ні|ніколи|избегай\w*|δεν|μην|χωρίς|لا|لم|لن|ليس|دون|بدون|לא|אל|אין|בלי|नहीं|मत|बिना)\b"
    r"|n['\u2019]t\b|[不无無没未勿莫别禁]|避免|ない|ません|せず|ずに|避け|않|안 |못|말고|마세요|마십시오|없이|금지"
    r"|ไม่|อย่า|ห้าม",
    regex.IGNORECASE,
)


def plain(text: str) -> str:
    """Normalize a text for comparison: NFKC, lower case, no invisible characters, single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(text.split()).casefold()


def count_words(text: str) -> int:
    """Count the words of a text; in a script without spaces, about as many as a translation would have."""
    found = [] if text.isascii() else _CHARACTER.findall(text)
    if not found:
        return len(text.split())
    rest = sum(_WORD.search(part) is not None for part in _CHARACTER.sub(" ", text).split())
    return rest + math.ceil(sum(map(_share, found)))


def tokens_of(text: str) -> float:
    """Estimate the tokens of a text, rather too many than too few."""
    if text.isascii():
        return len(text) / 4
    wide = sum(ord(c) > 0x2E7F for c in text)
    other = sum(0x7F < ord(c) <= 0x2E7F for c in text)
    return (len(text) - wide - other) / 4 + other / 2 + wide


def sentences(text: str) -> list[str]:
    """Split one line into sentences."""
    return [part for part in SENTENCE_END.split(text) if part]


@lru_cache(maxsize=4096)
def phrases(text: str, words: int) -> frozenset[str]:
    """Return every sequence of about so many words, without punctuation."""
    parts = _TOKEN.findall(plain(text))
    found, end, size = set[str](), 0, 0.0
    for at, part in enumerate(parts):
        while size < words - 1e-9 and end < len(parts):
            size += _share(parts[end])
            end += 1
        if size < words - 1e-9:
            break
        found.add(" ".join(parts[at:end]))
        size -= _share(part)
    return frozenset(found)


@lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """Return the words alone, each between spaces."""
    return f" {' '.join(_TOKEN.findall(plain(text)))} "


def readable(run: str) -> str:
    """Remove the spaces between words of scripts that write none."""
    return str(_GAP.sub("", run.strip()))


@lru_cache(maxsize=4096)
def stems(text: str) -> frozenset[str]:
    """Return the beginnings of a text's words, or pairs of characters, which stay when endings change."""
    found = set[str]()
    for word in _LETTERS.findall(plain(text)):
        size = next((n for family, n in _FAMILIES if family.match(word)), 0)
        if size:
            characters: Sequence[str] = _CHARACTER.findall(word)
            found |= {"".join(characters[i : i + size]) for i in range(max(1, len(characters) - size + 1))}
        else:
            found.add(word[: next(n for script, n in _BEGINNINGS if script.match(word))])
    return frozenset(found or bare(text).split() or plain(text).split())


@lru_cache(maxsize=4096)
def forbids(text: str) -> bool:
    """Return True if a text forbids or negates something."""
    return _FORBIDS.search(plain(text)) is not None


@lru_cache(maxsize=4096)
def numbers(text: str) -> frozenset[str]:
    """Return the numbers in a text."""
    return frozenset(word for word in _TOKEN.findall(plain(text)) if word.isdigit())


def _share(token: str) -> float:
    """Return the share of a word that a token makes up."""
    if token.isascii() or not _CHARACTER.match(token):
        return 1.0
    return next((share for script, share in _SHARES if script.match(token)), _SHARE)
