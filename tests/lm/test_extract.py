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
