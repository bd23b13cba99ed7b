"""extract_code against the reply shapes of real models, its speed on junk, and two properties."""

from __future__ import annotations

import ast
import json
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evoprompt.lm.extract import extract_code

CODE = "def f(x):\n    return x + 1"
DOC_FENCE = 'def f(x):\n    """Doc.\n\n```\n>>> f(1)\n```\n\n    ```python\n    f(2)\n    ```\n    """\n    return 1'

SHAPES: dict[str, str] = {
    "bare": CODE,
    "fence": f"```\n{CODE}\n```",
    "python tag": f"```python\n{CODE}\n```",
    "Python tag": f"```Python\n{CODE}\n```",
    "py tag": f"```py\n{CODE}\n```",
    "python3 tag": f"```python3\n{CODE}\n```",
    "attributes": f'```python title="a.py"\n{CODE}\n```',
    "braces": f"```{{.python}}\n{CODE}\n```",
    "tildes": f"~~~python\n{CODE}\n~~~",
    "long fence": f"`````python\n{CODE}\n`````",
    "windows": f"Sure:\r\n```python\r\n{CODE}\r\n```\r\n".replace("\n    ", "\r\n    "),
    "prose around": f"Sure! Here you go:\n\n```python\n{CODE}\n```\n\nIt adds one, i.e. x + 1.",
    "prose on the fence line": f"Here is the code: ```python\n{CODE}\n```",
    "closing fence attached": f"```python\n{CODE}```",
    "unclosed": f"```python\n{CODE}",
    "unclosed, then prose": f"```python\n{CODE}\n\nThis function adds one.",
    "unclosed, cut in the tests": f"```python\n{CODE}\n\nassert f(1) == f(",
    "no opening fence": f"{CODE}\n```\n\nThis function adds one.",
    "indented fence": "1. Do it:\n\n   ```python\n   def f(x):\n       return x + 1\n   ```\n",
    "indented code": "```python\n    def f(x):\n        return x + 1\n```",
    "chat": f"[[ ## code ## ]]\n```python\n{CODE}\n```\n\n[[ ## completed ## ]]\n",
    "chat, plain": f"[[ ## code ## ]]\n{CODE}\n\n[[ ## completed ## ]]",
    "chat, unclosed": f"[[ ## code ## ]]\n```python\n{CODE}\n\n[[ ## completed ## ]]",
    "chat, header line": f"[[ ## reasoning ## ]]\nadd\n[[ ## code ## ]] ```python\n{CODE}\n```",
    "chat, reasoning with a draft": (
        f"[[ ## reasoning ## ]]\n```python\ndef f(x):\n    return x\n```\n[[ ## code ## ]]\n{CODE}\n"
        "[[ ## completed ## ]]"
    ),
    "json": json.dumps({"code": CODE}),
    "json, fenced value": json.dumps({"reasoning": "x", "code": f"```python\n{CODE}\n```"}),
    "json in a fence": "```json\n" + json.dumps({"code": CODE}, indent=2) + "\n```",
    "json after prose": "Here it is:\n" + json.dumps({"code": CODE}),
    "json, raw newlines": '{"code": "```python\n' + CODE + '\n```"}',
    "json, cut": json.dumps({"code": CODE + "\n\nassert f(1) == 2"})[:-9],
    "think": f"<think>\nMaybe\n```python\ndef f(x):\n    return 0\n```\n</think>\n\n```python\n{CODE}\n```",
    "think, one line": f"<think>easy</think>\n{CODE}",
    "think, opened in the prompt": f"Maybe\n```python\ndef f(x): return 0\n```\n</think>\n{CODE}",
    "nested": f"````markdown\n```python\n{CODE}\n```\n````",
    "nested, same fence": f"```\n```python\n{CODE}\n```\n```",
    "draft, then better": f"```python\ndef f(x):\n    return x\n```\nBetter:\n```python\n{CODE}\n```",
    "then usage": f"```python\n{CODE}\n```\nUsage:\n```python\nprint(f(1))\n```\n```\n2\n```",
    "shell first": f"```bash\npip install numpy\n```\n```python\n{CODE}\n```",
    "plain, prose around": f"Here is a function:\n\n{CODE}\n\nIt returns x + 1. Try it, e.g. f(1).",
    "plain, list around": f"- first\n- second\n\n{CODE}\n\nOutput: 2",
    "plain, output fenced": f"{CODE}\n\nExample output:\n```\n2\n```",
    "plain, indented": "Solution:\n\n    def f(x):\n        return x + 1\n\nDone.",
    "special token": f"```python\n{CODE}\n```<|im_end|>",
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("entry_point", ["f", "f(x)", ""])
def test_shapes(shape: str, entry_point: str) -> None:
    assert extract_code(SHAPES[shape], entry_point) == CODE


@pytest.mark.parametrize(
    "code",
    [
        "import functools\n\n@functools.lru_cache(maxsize=None)\ndef f(x):\n    return x",
        "def f(x):\n    yield x",
        "def f(x):\n    print(x)",
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n\ndef f(x):\n    return x",
        "A, B = 1, 2\n\ndef f(x):\n    return A",
        "f = lambda x: x",
        "async def f(x):\n    return x",
        "class f:\n    def __init__(self, x):\n        self.x = x",
        "from math import factorial as f",
        "if True:\n    def f(x):\n        return x",
        DOC_FENCE,
        'def f(x):\n    """\nAt the margin: [not closed\n"""\n    return x',
        "def f(x: int) -> str:\n    return '''\n```\n''' + \"</think>\"",
    ],
)
@pytest.mark.parametrize("wrap", ["{}", "```python\n{}\n```", "Text here.\n\n{}\n\nMore text.", "[[ ## code ## ]]\n{}"])
def test_any_kind_of_definition_survives(code: str, wrap: str) -> None:
    assert extract_code(wrap.format(code), "f") == code


def test_a_helper_block_does_not_win() -> None:
    reply = "```python\ndef f(x):\n    return g(x)\n```\nand\n```python\ndef g(x):\n    return x\n```"
    assert extract_code(reply, "f").startswith("def f")
    assert extract_code(reply, "g").startswith("def g")


def test_the_broken_solution_beats_working_text() -> None:
    reply = "```python\ndef f(x:\n    return x\n```\n```python\nprint(1)\n```"
    assert extract_code(reply, "f") == "def f(x:\n    return x"


def test_a_function_cut_in_the_middle_stays_broken() -> None:
    reply = "```python\nimport math\n\ndef f(x):\n    if x:\n        return math.sq"
    assert extract_code(reply, "f") == reply[10:]
    cut = "```python\ndef f(x):\n    return (x +"
    assert extract_code(cut, "f") == cut[10:]
    assert extract_code(cut[10:], "f") == cut[10:]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   \n\n",
        "I'm sorry, I can't do that.",
        "Sorry",
        "Answer: 42",
        "<think>def f(x):\n    return x",
        "```\n```",
        "```bash\npip install numpy\n```",
        "[[ ## code ## ]]\n\n[[ ## completed ## ]]",
        '{"code": ""}',
    ],
)
def test_no_code(reply: str) -> None:
    assert extract_code(reply, "f") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "junk",
    [
        "word " * 200_000,
        "x" * 1_000_000,
        "`" * 1_000_000 + "x`",
        "~" * 1_000_000,
        "```\n" * 250_000,
        "```\n(\n" * 160_000,
        "```a\n(\n" * 140_000,
        "``` a " * 170_000,
        "```python" + " " * 1_000_000,
        "def f(x):\n" * 100_000,
        "x = (\n" * 160_000,
        '"""\n' * 250_001,
        "x = 1\n" * 160_000,
        "<think>" * 140_000,
        "<think>\n</think>\n" * 60_000,
        "[[ ## code ## ]]\n" * 60_000,
        '{"code": "' * 100_000,
        '{"code": "' + "\\" * 1_000_001,
        "(" * 1_000_000,
        "-" * 1_000_000,
        "a" + " " * 1_000_000 + "b",
        "@a\n" * 300_000,
        "    def f():\n" * 70_000,
        "\x00\ud800" * 300_000,
    ],
    ids=lambda junk: repr(junk[:12]),
)
def test_a_megabyte_of_junk_comes_to_an_end(junk: str) -> None:
    # The quadratic versions of this took minutes: a suite that hangs here has found one again.
    assert isinstance(extract_code(junk, "f"), str)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["```", "```python", "~~~", "    ", "def f(x):", "\n", "\r\n", "return x", '"""', "(", "<think>"]
            + ["</think>", "[[ ## code ## ]]", '{"code": "', "\\", '"}', "@", "x = 1", "\x00", "\ud800"]
        )
        | st.text(max_size=8)
    ).map("".join),
    st.text(max_size=8) | st.just("f(x)"),
)
def test_never_raises(reply: str, entry_point: str) -> None:
    assert isinstance(extract_code(reply, entry_point), str)


def _source_files() -> list[str]:
    names = [
        "textwrap",
        "heapq",
        "bisect",
        "dataclasses",
        "json.decoder",
        "json.encoder",
        "colorsys",
        "fnmatch",
    ]
    for name in names:
        __import__(name)
    return [open(str(sys.modules[n].__file__), encoding="utf-8").read() for n in names]  # noqa: PTH123


@st.composite
def _modules(draw: st.DrawFn) -> str:
    """Valid modules made of statements with awkward strings, comments and blank lines."""
    text = st.lists(
        st.sampled_from(["```", "```python", "~~~", "[[ ## x ## ]]", "<p>", "é", "a b", "", "\t", "    x", "#"]),
        max_size=4,
    ).map("\n".join)
    parts = []
    for i in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["def", "assign", "comment", "doc", "call", "decorated", "blank"]))
        body = draw(text)
        parts.append(
            {
                "def": f'def f{i}(x):\n    """{body}\n    """\n    return x',
                "assign": f"x{i}, y{i} = {body!r}, 1",
                "comment": "\n".join("# " + line for line in body.split("\n")),
                "doc": f"'''{body}\n'''",
                "call": f"print(\n{body!r}\n)",
                "decorated": f"@staticmethod\ndef g{i}():\n    yield {i}",
                "blank": "\n",
            }[kind]
        )
    return "\n".join(parts)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_modules(), st.sampled_from(["", "python", "py", "Python"]), st.booleans())
@example("pass", "python", False)
@example("hello", "python", True)
@example('"""\n[[ ## code ## ]]\nx\n"""', "python", True)
def test_a_valid_module_in_a_fence_comes_back(module: str, tag: str, prose: bool) -> None:
    ast.parse(module)
    reply = f"```{tag}\n{module}\n```"
    if prose:
        reply = f"Here is the solution.\n\n{reply}\n\nIt works."
    assert extract_code(reply).rstrip() == module.rstrip()


@pytest.mark.parametrize("index", range(8))
def test_real_modules_come_back(index: int) -> None:
    source = _source_files()[index]
    assert extract_code(f"Sure:\n```python\n{source}\n```\nDone.") == source.rstrip()
    assert extract_code(source) == source.rstrip()


def fenced(*blocks: str) -> str:
    return "Then:\n".join(f"```python\n{block}\n```\n" for block in blocks)


def run(reply: str) -> object:
    """`f(1)` of the code in the reply."""
    names: dict[str, object] = {}
    exec(extract_code(reply, "f"), names)
    function = names["f"]
    assert callable(function)
    return function(1)


MAIN = "def f(x):\n    return g(x) + ONE"
TOGETHER: dict[str, list[str]] = {
    "helper before": ["def g(x):\n    return x", "def f(x):\n    return g(x) + 1"],
    "helper after": ["def f(x):\n    return g(x) + 1", "def g(x):\n    return x"],
    "import": ["import operator as op", "def f(x):\n    return op.add(x, 1)"],
    "star import": ["from operator import *", "def f(x):\n    return add(x, 1)"],
    "import for an annotation": ["from typing import List", "def f(x: int | List[int]) -> int:\n    return x + 1"],
    "constant": ["ONE = 1", "def f(x, by=ONE):\n    return x + by"],
    "constant after, needed at once": ["def f(x, by=ONE):\n    return x + by", "ONE = 1"],
    "decorator after": ["@twice\ndef f(x):\n    return x", "def twice(g):\n    return lambda x: g(x) + 1"],
    "class": ["class A:\n    one = 1", "def f(x):\n    return x + A.one"],
    "base class after": ["class f(A):\n    pass", "class A(int):\n    def __new__(cls, x):\n        return 2"],
    "chain": ["import math", "def h(x):\n    return math.floor(x)", "def g(x):\n    return h(x)", "ONE = 1", MAIN],
    "two in one": ["ONE = 1\n\ndef g(x):\n    return x", MAIN],
    "helper with its example": ["def g(x):\n    return x\n\nprint(g(3))", "ONE = 1", MAIN],
    "helper with an example of what comes": ["def g(x):\n    return x\n\nassert f(1) == 2", "ONE = 1", MAIN],
    "helper beside a draft": ["def g(x):\n    return x\n\ndef f(x):\n    return g(x)", "ONE = 1", MAIN],
    "helper beside a stub after": ["ONE = 1", MAIN, "def g(x):\n    return x\n\ndef f(x):\n    ..."],
    "helper corrected": ["def g(x):\n    return 9", MAIN, "def g(x):\n    return x", "ONE = 1"],
    "helper, then its stub": ["def g(x):\n    return x", "ONE = 1", MAIN, "def g(x):\n    pass"],
    "helper corrected in a block of its own": [
        "ONE = 1\n\ndef g(x):\n    return 0\n\n" + MAIN,
        "def g(x):\n    return x",
    ],
    "helper not replaced by a stub": ["ONE = 1\n\ndef g(x):\n    return x\n\n" + MAIN, "def g(x):\n    ..."],
    "annotated constant": ["ONE: int = 1", "def f(x):\n    return x + ONE"],
    "helpers of each other": [
        "def g(x):\n    return x and h(x)",
        "def h(x):\n    return g(x - 1) or 1",
        "ONE = 1",
        MAIN,
    ],
    "table filled beside it": ["T = {}\nfor i in range(5):\n    T[i] = i + 1", "def f(x):\n    return T[x]"],
    "future import": ["import math", "from __future__ import annotations\n\ndef f(x: Y) -> Y:\n    return x + 1"],
}


@pytest.mark.parametrize("blocks", TOGETHER.values(), ids=TOGETHER)
def test_blocks_that_need_each_other_come_together(blocks: list[str]) -> None:
    assert run(fenced(*blocks)) == 2


@pytest.mark.parametrize(
    "stub",
    [
        "def f(x):\n    pass",
        "def f(x):\n    ...",
        'def f(x):\n    """Adds one."""',
        'def f(x: int) -> int:\n    """Adds one."""\n    raise NotImplementedError',
        "def f(x):\n    raise NotImplementedError('here')",
        "def f(x):\n    # your code\n    return None",
        "def f(x):\n    y = x\n    ...\n    return y",
        "class f:\n    def __init__(self, x): ...",
    ],
)
def test_a_stub_replaces_nothing(stub: str) -> None:
    assert extract_code(fenced(CODE, stub), "f") == CODE
    assert extract_code(fenced(stub, CODE), "f") == CODE
    assert extract_code(fenced(stub), "f") == stub


def test_a_class_with_an_empty_method_is_no_stub() -> None:
    full = "class f(int):\n    def close(self):\n        pass\n\n    def more(self):\n        return self + 1"
    stub = "class f(int):\n    def close(self): ...\n\n    def more(self): ..."
    assert extract_code(fenced(full, stub), "f") == full
    assert extract_code(fenced(stub, full), "f") == full


def test_blocks_with_the_name_of_a_file() -> None:
    reply = "```python:constants.py\nONE = 1\n```\n```python:main.py\ndef f(x):\n    return x + ONE\n```"
    assert run(reply) == 2


def test_the_last_full_version_wins() -> None:
    wrong, empty = "def f(x):\n    return 0", "def f(x):\n    return"
    assert extract_code(fenced(wrong, CODE), "f") == CODE
    assert extract_code(fenced(wrong, empty, CODE, "print(f(1))", empty), "f") == CODE


def test_a_block_that_is_not_needed_stays_away() -> None:
    assert extract_code(fenced("def g(x):\n    return 1", CODE, "x = 3\nprint(f(x))"), "f") == CODE


SEEN: dict[str, str] = {
    "no-break spaces": CODE.replace("    ", "\u00a0" * 4),
    "mixed spaces": CODE.replace("    ", " \u00a0 \u2003"),
    "narrow spaces between": CODE.replace(" + ", "\u202f+\u2009"),
    "zero width before": "\u200b" + CODE,
    "zero width at the end of lines": CODE.replace(":", ":\u200b"),
    "byte order mark within": CODE.replace("return", "\ufeffreturn"),
    "soft hyphen": CODE.replace("return", "re\u00adturn"),
    "separators of lines": CODE.replace("\n", "\u2028"),
    "direction marks": f"\u202a{CODE}\u202c",
}


@pytest.mark.parametrize("code", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize(
    "wrap", ["{}", "```python\n{}\n```", "It's so:\n\n{}\n\nIsn't it?", '{{"code": "```\n{}\n```"}}']
)
def test_what_chat_pages_put_in_unseen_is_cleaned(code: str, wrap: str) -> None:
    assert run(wrap.format(code)) == 2


def test_strings_keep_their_characters() -> None:
    fine = "def f(x):\n    return 'a\u00a0b\u200b', '''\ufeff'''"
    assert extract_code(f"```python\n{fine}\n```", "f") == fine
    mixed = "def f(x):\n\u00a0   # it's\u00a0so\n\u00a0   return 'a\u00a0b' + \"\u200b\""
    assert run(f"```python\n{mixed}\n```") == "a\u00a0b\u200b"


def test_tabs_amid_spaces() -> None:
    assert run("```python\ndef f(x):\n\tif x:\n        return 2\n\treturn 0\n```") in (0, 2)
    assert run("```python\ndef f(x):\n    if x:\n\t return 2\n    return 0\n```") == 2
    assert run("So:\n\ndef f(x):\n    if x:\n\t return 2\n    return 0\n") == 2
    fine = 'def f(x):\n\treturn "\t"'
    assert extract_code(f"```python\n{fine}\n```", "f") == fine


def test_sessions_quotes_and_spans() -> None:
    session = ">>> def f(x):\n...     return x + 1\n...\n>>> f(1)\n2"
    assert run(f"```python\n{session}\n```") == 2
    quoted = CODE.replace("\n", "\n ")
    assert run(f"[BEGIN]\n '{quoted}\n '\n[DONE]") == 2
    assert run("It is `def f(x): return x + 1`, see `f`.") == 2


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_order_of_definitions_in_blocks_of_their_own_runs(data: st.DataObject) -> None:
    """What one module would hold, cut into blocks in any order, still defines all that `f` needs."""
    parts = ["def f(x):\n    return g(x) + h(0)"]
    parts += ["def g(x):\n    return x * ONE", "def h(x):\n    return T[x] + op.neg(x)"]
    parts += ["ONE = 1", "T = {0: 1}", "import operator as op"]
    order = data.draw(st.permutations(parts))
    noise = data.draw(
        st.lists(st.sampled_from(["print(f(2))", "def f(x):\n    pass", "x = 1", "f(1) == 2"]), max_size=3)
    )
    at = data.draw(st.integers(0, len(order)))
    assert run(fenced(*order[:at], *noise, *order[at:])) == 2
