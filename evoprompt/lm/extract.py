"""Extracts the Python code from a model's reply of any shape. Imports the standard library only.

Snippets come from fenced blocks, from `{"code": …}` objects and from plain lines. The best wins (see `_rank`), and the
last of equals, because models correct themselves further down. A full definition beats a stub, and the best block takes
along what it needs of other blocks (`blocks.join`). Code that does not parse is returned if it was clearly meant as the
answer: a syntax error is a verdict. One budget per reply bounds all work that could be quadratic.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import textwrap
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from evoprompt.lm.blocks import Block, fullness, is_code, is_prose, join, names_of
from evoprompt.lm.reply import HEADER, code_sections, mended, strip_thinking
from evoprompt.tasks import parse_python

__all__ = ["code_text", "extract_code", "scrub"]

_PARSE_CALLS = 800
_PARSE_CHARS = 3_000_000
_LARGEST = 250_000
"""Characters of the largest block that is parsed: no model writes more, and parsing it would take seconds."""
_REMEMBERED = 10_000
"""Characters of the longest code whose tree is cached."""
_CLOSERS, _BLOCKS = 40, 400
"""Fences tried as the end of one block, and blocks read of one reply."""

_PYTHON_TAGS = frozenset({"", "python", "py", "python3", "py3", "python2", "ipython", "ipython3", "code"})
# Possessive quantifiers, so that no line of a megabyte can make a match quadratic.
_OPENER = re.compile(r"(?P<before>.*?)(?P<fence>(?<!`)`{3,}+|(?<!~)~{3,}+)(?P<info>[^`]*)$")
_ONE_LINE = re.compile(r"\s*+`{3,}+(?:(?:python|py)3?[ \t]++)?(?P<code>[^`]++)`{3,}+\s*$")
_NAME = re.compile(r"\s*(?:async\s+)?(?:def\s+|class\s+)?([^\W\d]\w*)")
_CODE_LINE = re.compile(
    r"(?:@|#|\"\"\"|'''|(?:async +)?(?:def|class|for|while|with|try|if)\b|import +\w|from +[\w.]+ +import\b"
    r"|[^\W\d][\w., \[\]\"']*+(?::[^=]++)?[-+*/|&^%@]?=(?!=)|[^\W\d][\w.]*+\()"
)
_GOES_ON = re.compile(r"[\s)\]}]|(?:else|elif|except|finally|case)\b")
_DEFINITION = re.compile(r"^[ \t]*(?:async +)?(?:def|class) +(\w+)", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]++)`(?!`)")
QUOTED = 300
"""Characters of a reply without code that are told."""
_JSON_CODE = re.compile(r'[{,]\s*+"(?:code|fixed_code)"\s*+:\s*+"')

# Python warns about odd escapes in the *models'* strings while it parses them; that is no news for the user.
warnings.filterwarnings("ignore", module=re.escape("<reply>"))


def extract_code(reply: str, entry_point: str = "") -> str:
    """Return the Python code of a reply, or an empty string if there is none.

    Args:
        reply: The model's answer. `<think>` blocks in it are ignored.
        entry_point: The function that the code should define, as `name` or `name(parameters)`.

    Returns:
        The best block without its fence and trailing white space. It may not parse.
    """
    match = _NAME.match(entry_point)
    finder = _Finder(match.group(1) if match else "")
    lines = strip_thinking(reply).split("\n")
    for section in code_sections(lines):
        found = finder.best(section)
        if found:
            return found
    return ""


def no_code(reply: str) -> str:
    """The words for a reply without code, with its beginning: `the reply holds no code: "I'm sorry, but I can't…"`."""
    said = " ".join((strip_thinking(reply).strip() or reply).split())
    cut = said if len(said) <= QUOTED else f"{said[: QUOTED - 1]}…"
    return f"the reply holds no code: {cut!r}" if cut else "the reply holds no code"


def code_text(prediction: object) -> str:
    """Return the `code` of a prediction as text, also from a `dspy.Code`; empty if it has none."""
    value = getattr(prediction, "code", None)
    inner = getattr(value, "code", value)
    return inner if isinstance(inner, str) else ""


def scrub(text: str) -> str:
    """Replace lone surrogates, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode()


class _Snippet(NamedTuple):
    code: str
    rank: int


@dataclass
class _Finder:
    """A search for `name` with what is left of the budget."""

    name: str
    calls: int = _PARSE_CALLS
    chars: int = _PARSE_CHARS
    trees: dict[str, ast.Module | None] = field(default_factory=dict)

    def best(self, lines: list[str]) -> str:
        found = self._search(lines)
        text = "\n".join(lines)
        for variant in mended(text):
            if found is None or found.rank < self._enough:
                found = _better(found, self._search(variant.split("\n")))
        if found is None or found.rank < self._enough:
            found = _better(found, self._quoted(text))
        return found.code.rstrip() if found is not None else ""

    @property
    def _enough(self) -> int:
        """The highest rank: the code defines the wanted name, or any name if none is wanted."""
        return 5 if self.name else 3

    def _search(self, lines: list[str], depth: int = 0) -> _Snippet | None:
        whole = "\n".join(lines)
        tree = self.parse(whole)
        if tree is not None and any(map(is_code, tree.body)) and not any(map(is_prose, tree.body)):
            return _Snippet(whole.strip("\n"), self._rank(whole))
        best = self._joined(self._blocks(lines))
        if depth == 0 and (best is None or best.rank < 3):
            best = _better(best, self._from_json(whole))
        if best is None or best.rank < self._enough:
            # Fences in the docstrings of unfenced code look like blocks.
            best = _better(best, self._plain(lines))
        return best

    def _joined(self, blocks: list[_Snippet]) -> _Snippet | None:
        """Return the best block with what it needs of the others."""
        if not blocks:
            return None
        best = max(range(len(blocks)), key=lambda i: (blocks[i].rank, self._fullness(blocks[i]), i))
        parsed = [(i, tree) for i, c in enumerate(blocks) if (tree := self.parse(c.code)) is not None]
        main = next((k for k, (i, _) in enumerate(parsed) if i == best), None)
        if main is None or len(parsed) == 1 or blocks[best].rank < 3:
            return blocks[best]
        code = join([Block(blocks[i].code, tree) for i, tree in parsed], main, self.name)
        return _Snippet(code, blocks[best].rank) if self.parse(code) is not None else blocks[best]

    def _fullness(self, candidate: _Snippet) -> int:
        tree = self.parse(candidate.code) if candidate.rank == 5 else None
        return 0 if tree is None else fullness(tree)[self.name]

    def _quoted(self, text: str) -> _Snippet | None:
        """Return quoted code between `[BEGIN]` and `[DONE]`, or code between single backticks."""
        found: _Snippet | None = None
        quoted = text.rpartition("[BEGIN]")[2].partition("[DONE]")[0].strip() if "[BEGIN]" in text else ""
        spans = [m.group(1) for m in itertools.islice(_SPAN.finditer(text), _CLOSERS)]
        for code in (quoted[1:-1] if quoted[:1] in ("'", '"') else "", *spans):
            code = code.strip()
            rank = self._rank(code)
            if rank >= 3 and _DEFINITION.search(code):
                found = _better(found, _Snippet(code, rank))
        return found

    def parse(self, code: str) -> ast.Module | None:
        if code in self.trees:
            return self.trees[code]
        if not self._affords(code):
            return None
        self.calls -= 1
        self.chars -= len(code)
        try:
            tree: ast.Module | None = _parsed(code) if len(code) <= _REMEMBERED else parse_python(code, "<reply>")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            tree = None
        self.trees[code] = tree
        return tree

    def _affords(self, code: str) -> bool:
        return self.calls > 0 and len(code) <= min(_LARGEST, self.chars)

    def _blocks(self, lines: list[str]) -> list[_Snippet]:
        found: list[_Snippet] = []
        fences = [i for i, line in enumerate(lines) if "```" in line or "~~~" in line]
        at = 0
        for position, i in enumerate(fences):
            if i < at:
                continue
            if len(found) >= _BLOCKS:
                break
            one_line = _ONE_LINE.match(lines[i])
            opener = _OPENER.match(lines[i])
            if one_line:
                self._add(found, one_line.group("code"), "")
            elif opener:
                code, at = self._block(lines, fences[position + 1 : position + 1 + _CLOSERS], i, opener)
                self._add(found, code, _tag(opener.group("info")))
        return found

    def _block(self, lines: list[str], fences: list[int], i: int, opener: re.Match[str]) -> tuple[str, int]:
        """Return the code of the block that opens on line i, and the line after it.

        A fence within a docstring cuts a string in half, so the code before it can't parse. The first closing fence
        with code before it that parses is the true end.
        """
        mark, before = opener.group("fence"), opener.group("before")
        indent = len(before) if not before.strip() else 0
        texts = {j: lines[j].strip() for j in fences}
        bare = [j for j in fences if texts[j].startswith(mark) and not texts[j].strip(mark[0])]
        attached = [j for j in fences if texts[j].endswith(mark) and j not in bare]
        for j in [*bare, *attached]:
            code = _unindent([*lines[i + 1 : j], *_attached(lines[j], mark)], indent)
            if not self._affords(code):
                break
            for text in dict.fromkeys((code, _dedent(code))):
                if self.parse(text) is not None:
                    return text, j + 1
        other = (j for j in fences if texts[j][:3] in ("```", "~~~") and texts[j].strip("`~"))
        inner = next(other, len(lines))
        closer = (bare or attached or [len(lines)])[0]
        if closer < inner:
            body = [*lines[i + 1 : closer], *_attached(lines[closer], mark)]
            return _dedent(_unindent(body, indent)), closer + 1
        return self._cut(_unindent(lines[i + 1 : inner], indent)), inner

    def _cut(self, code: str) -> str:
        """Cut text or half a statement off the end of an unclosed block; keep it whole if that doesn't help."""
        lines = code.split("\n")
        if self.parse(code) is not None:
            return code
        starts = [k for k, line in enumerate(lines) if k and line.strip() and not _GOES_ON.match(line)]
        for k in starts[: -_CLOSERS - 1 : -1]:
            kept = "\n".join(lines[:k])
            tree = self.parse(kept)
            if tree is not None:
                names = names_of(tree)
                return kept if names and (not self.name or self.name in names) else code
        header = next((k for k, line in enumerate(lines) if HEADER.match(line)), len(lines))
        return "\n".join(lines[:header])

    def _add(self, found: list[_Snippet], code: str, tag: str) -> None:
        if self.parse(code) is None:
            code = next((c for c in mended(code) if self.parse(c) is not None), code)
        rank = self._rank(code)
        if tag in _PYTHON_TAGS or rank == 5 or (rank == 3 and _DEFINITION.search(code)):
            found.append(_Snippet(code, rank if code.strip() else -1))

    def _rank(self, code: str) -> int:
        """Return 5 if the code defines the name, 4 if its text does, 3 or 2 for any name, 1 if it parses, else 0."""
        tree = self.parse(code)
        if tree is not None:
            names = names_of(tree)
            return 5 if self.name in names else 3 if names else 1
        names = set(_DEFINITION.findall(code))
        return 4 if self.name in names else 2 if names else 0

    def _from_json(self, text: str) -> _Snippet | None:
        """Return the value of `"code"` in a JSON reply, even if the reply is cut within it."""
        match = _JSON_CODE.search(text)
        if match is None:
            return None
        value = _json_string(text, match.end()).replace("\r\n", "\n")
        return self._search(value.split("\n"), depth=1)

    def _plain(self, lines: list[str]) -> _Snippet | None:
        """Return the best run of plain lines that is code, or all from the first definition on if none parses."""
        runs = [_Snippet(run, self._rank(run)) for run in self._runs(lines)]
        if not runs:
            dedented = _indented_part(lines)
            runs = [_Snippet(run, self._rank(run)) for run in self._runs(dedented)] if dedented else []
        if runs:
            best = max(runs, key=lambda c: (c.rank, len(c.code)))
            if best.rank >= 3 or not _DEFINITION.search("\n".join(lines)):
                return best
        start = next((k for k, line in enumerate(lines) if re.match(r"(?:async +)?def +\w+ *\(", line)), None)
        if start is None:
            return max(runs, key=lambda c: (c.rank, len(c.code)), default=None)
        end = next((k for k in range(start, len(lines)) if lines[k].startswith(("```", "~~~"))), len(lines))
        rest = "\n".join(lines[start:end])
        return _Snippet(rest, self._rank(rest))

    def _runs(self, lines: list[str]) -> list[str]:
        """Return contiguous runs of top-level statements without the prose between them."""
        starts = [k for k, line in enumerate(lines) if line.strip() and not _GOES_ON.match(line)]
        starts.append(len(lines))
        runs: list[tuple[int, int]] = []
        k = 0
        while k < len(starts) - 1:
            end = self._statement(lines, starts, k) if _CODE_LINE.match(lines[starts[k]]) else None
            if end is None:
                k += 1
                continue
            if runs and runs[-1][1] == starts[k]:
                runs[-1] = (runs[-1][0], starts[end])
            else:
                runs.append((starts[k], starts[end]))
            k = end
        texts = ["\n".join(lines[a:b]).strip("\n") for a, b in runs]
        return [t for t in texts if (tree := self.parse(t)) is not None and any(map(is_code, tree.body))]

    def _statement(self, lines: list[str], starts: list[int], k: int) -> int | None:
        """Return the index in `starts` after the statement at starts[k], or None if it is no statement."""
        text, wanted = "", ""
        for end in range(k + 1, min(k + 200, len(starts))):
            more = "\n".join(lines[starts[end - 1] : starts[end]])
            text = f"{text}\n{more}" if text else more
            self.chars -= len(more)
            if self.chars < 0:
                return None
            # Only what can close the statement is worth another parse: Python's is slow on open brackets.
            if more.startswith("@") if wanted == "@" else wanted not in more:
                continue
            if self.parse(text) is not None:
                return end
            wanted = _open(text)
            if not wanted or self.calls <= 0:
                return None
        return None


def _better(one: _Snippet | None, other: _Snippet | None) -> _Snippet | None:
    if one is None or (other is not None and other.rank > one.rank):
        return other
    return one


def _tag(info: str) -> str:
    words = info.strip().strip("{}").lstrip(".").split()
    return re.split("[:,}]", words[0].lower())[0] if words else ""


def _attached(line: str, mark: str) -> list[str]:
    """Return the code before a closing fence on its line."""
    head = line.rstrip().rstrip(mark[0])
    return [head] if head.strip() else []


def _dedent(code: str) -> str:
    return textwrap.dedent(code) if code[:1] in (" ", "\t") else code


def _unindent(lines: list[str], indent: int) -> str:
    """Remove the indentation of the fence from the lines of its block."""
    if not indent:
        return "\n".join(lines)
    return "\n".join(line[min(indent, len(line) - len(line.lstrip())) :] for line in lines)


def _indented_part(lines: list[str]) -> list[str]:
    """Return the first indented block that starts like code, dedented."""
    indented = (k for k, x in enumerate(lines) if x[:1] in (" ", "\t") and _CODE_LINE.match(x.lstrip()))
    start = next(indented, None)
    if start is None:
        return []
    end = next((k for k in range(start, len(lines)) if lines[k][:1].strip()), len(lines))
    return textwrap.dedent("\n".join(lines[start:end])).split("\n")


@lru_cache(maxsize=32)
def _parsed(code: str) -> ast.Module:
    """Parse code. Cached, because a program and its judge both extract the same code; nobody changes the tree.

    Errors are not cached: how deep code may be nested depends on the caller's stack.
    """
    return parse_python(code, "<reply>")


def _open(text: str) -> str:
    """Return what could complete a statement: closing quotes, a bracket, or `@` for a decorated definition."""
    for quotes in ('"""', "'''"):
        if text.count(quotes) % 2:
            return quotes
    for left, right in ("()", "[]", "{}"):
        if text.count(left) > text.count(right):
            return right
    return "@" if text.startswith("@") else ""


def _json_string(text: str, start: int) -> str:
    """Return the JSON string that begins after its quote, with control characters or without an end."""
    tail = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?\Z", "", text[start:])
    for closed in (text[start:], tail + '"'):
        try:
            return str(json.decoder.scanstring(closed, 0, False)[0])  # type: ignore[attr-defined]
        except ValueError:
            continue
    return tail.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")
