# ruff: noqa: RUF001
"""Prompts in any language and of any length: words are found, copies are seen, and limits grow with the start."""

from __future__ import annotations

import re
from typing import Any

import pytest

from evoprompt import Task
from evoprompt.evolve.estimate import tokens_of
from evoprompt.evolve.factorial.constants import MAX_WORDS
from evoprompt.evolve.factorial.markdown import is_heading, split
from evoprompt.evolve.factorial.rules import leak, screen_rule
from evoprompt.evolve.triage import cluster, same_rule, shared_words
from evoprompt.lm.words import count_words
from signatures import Diagnosis
from tests.evolve.moods import exact
from tests.evolve.searches import compiled, pool_of
from tests.models import asked_for

RULES = {
    "chinese": ("在索引之前处理空列表。", "在索引之前请处理空列表。", "返回结果，而不是打印它。"),
    "japanese": ("索引の前に空のリストを処理する。", "索引する前に空のリストを処理する。", "結果を返し、印刷しない。"),
    "korean": (
        "색인 전에 빈 목록을 처리하세요.",
        "색인하기 전에 빈 목록을 처리하세요.",
        "결과를 반환하고 인쇄하지 마세요.",
    ),
    "thai": ("จัดการรายการว่างก่อนใช้ดัชนี", "ให้จัดการรายการว่างก่อนใช้ดัชนี", "คืนค่าผลลัพธ์ อย่าพิมพ์"),
    "russian": (
        "Обрабатывай пустой список перед индексированием.",
        "Обрабатывайте пустые списки перед индексированием.",
        "Возвращай результат, а не печатай его.",
    ),
    "hindi": (
        "सूचकांक से पहले खाली सूची को संभालें।",
        "सूचकांक लेने से पहले खाली सूची को संभालें।",
        "परिणाम लौटाएँ, छापें नहीं।",
    ),
    "arabic": (
        "تعامل مع القائمة الفارغة قبل الفهرسة.",
        "تعامل مع القائمة الفارغة قبل أي فهرسة.",
        "أعد النتيجة ولا تطبعها.",
    ),
    "greek": ("Χειρίσου την κενή λίστα πριν από το ευρετήριο.",) * 2 + ("Επέστρεψε το αποτέλεσμα χωρίς εκτύπωση.",),
    "symbols": ("x ≥ 0 → √x", "x ≥ 0 → √x", "∅ → 0"),
}
TASKS = {
    "chinese": "编写一个函数，返回列表中所有偶数的平方和。",
    "japanese": "リスト内のすべての偶数の二乗の合計を返す関数を書いてください。",
    "korean": "목록에서 모든 짝수의 제곱의 합을 반환하는 함수를 작성하세요.",
    "thai": "เขียนฟังก์ชันที่คืนค่าผลรวมกำลังสองของเลขคู่ทั้งหมดในรายการ",
    "russian": "Напиши функцию, которая возвращает сумму квадратов всех чётных чисел списка.",
    "hindi": "एक फ़ंक्शन लिखें जो सूची की सभी सम संख्याओं के वर्गों का योग लौटाए।",
    "arabic": "اكتب دالة تعيد مجموع مربعات كل الأعداد الزوجية في القائمة.",
    "short": "返回列表中的最大值",
    "english": "Write a function that returns the sum of the squares of all even numbers of a list.",
}


def diagnosed(rule: str) -> Diagnosis:
    return Diagnosis(failure_class="edge_case", root_cause="", rule=rule)


@pytest.mark.parametrize("language", RULES)
def test_rules_that_say_the_same_are_one_group_in_any_language(language: str) -> None:
    one, alike, other = RULES[language]
    groups = cluster([diagnosed(rule) for rule in (one, one, alike, other)])
    assert [g.count for g in groups] == [3, 1]
    assert shared_words(one, one) == 1.0
    assert not same_rule(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("打印所有中间结果的值。", "不打印所有中间结果的值。"),
        ("Печатай значения всех промежуточных результатов.", "Не печатай значения всех промежуточных результатов."),
        ("Runde die Werte auf 2 Stellen.", "Runde die Werte auf 3 Stellen."),
        ("Drucke die Werte aller Schritte.", "Drucke nicht die Werte aller Schritte."),
    ],
)
def test_rules_that_say_the_contrary_are_not_the_same(one: str, other: str) -> None:
    assert not same_rule(one, other)


@pytest.mark.parametrize("language", TASKS)
def test_a_task_that_is_copied_is_seen_in_any_language(language: str) -> None:
    task = Task(task_id="7", entry_point="f", prompt=TASKS[language], base=())
    assert "task 7" in (leak(f"Zum Beispiel / 例如：{TASKS[language]}", [task]) or "")
    assert all(leak(rule, [task]) is None for rules in RULES.values() for rule in rules)


def test_a_copy_in_other_characters_of_the_same_meaning_is_a_copy() -> None:
    task = Task(task_id="7", entry_point="f", prompt="返回 ABC 列表中所有偶数的平方和与它们的最大值", base=())
    assert leak("返回 ＡＢＣ 列表中所有\u200b偶数的平方和与它们的最大值", [task])


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("在索引之前处理空列表。", 4, 8),
        ("索引の前に空のリストを処理する。", 5, 10),
        ("จัดการรายการว่างก่อนใช้ดัชนี", 5, 9),
        ("Обрабатывай пустой список.", 3, 3),
        ("Use `x` 处理空列表 here", 5, 8),
        ("Handle the empty list - always.", 6, 6),
    ],
)
def test_words_are_counted_sensibly(text: str, least: int, most: int) -> None:
    assert least <= count_words(text) <= most
    assert least <= pool_of(text).words({0}) <= most


def test_a_long_chinese_sentence_is_no_rule() -> None:
    assert screen_rule("处理空列表" * 40, ()) is not None
    assert screen_rule("处理空列表" * 4, ()) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("先检查空列表。然后返回结果！真的吗？！好。", ["先检查空列表。", "然后返回结果！", "真的吗？！", "好。"]),
        ("规则：\n1、处理空列表。\n2、返回结果。", ["规则：", "处理空列表。", "返回结果。"]),
        ("（1）处理空列表\n（2）返回结果", ["处理空列表", "返回结果"]),
        ("一、处理空列表\n二、返回结果", ["处理空列表", "返回结果"]),
        ("他说“好。”然后走了。完。", ["他说“好。”然后走了。", "完。"]),
        ("Проверь пустой список, т.е. длину. Верни результат.",
         ["Проверь пустой список, т.е. длину.", "Верни результат."]),
        ("Prüfe z. B. Listen. Gib sie zurück.", ["Prüfe z. B. Listen.", "Gib sie zurück."]),
        ("सूची जाँचें। परिणाम लौटाएँ।", ["सूची जाँचें।", "परिणाम लौटाएँ।"]),
        ("¿Está vacía? ¡Devuelve 0! Fin.", ["¿Está vacía?", "¡Devuelve 0!", "Fin."]),
    ],
)  # fmt: skip
def test_sentences_end_where_their_language_ends_them(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_a_chinese_heading_is_no_rule() -> None:
    assert is_heading("规则：")
    assert not is_heading("处理空列表。")


def test_tokens_of_other_scripts_are_not_four_to_one() -> None:
    assert tokens_of("在索引之前处理空列表。") >= 8
    assert tokens_of("abcdefgh") == 2


# Long prompts

LONG = "Write {code} for it.\n" + "\n".join(
    f"- Rule {i}: mind the detail number {i} whenever it applies to the {{problem}} at hand, and say so to nobody."
    for i in range(120)
)


def never(text: str) -> str:
    """Nothing is ever solved; the optimizer adds a sentence, now short, now long."""
    field = asked_for(text)
    if field == "new_instruction":
        return f"[[ ## new_instruction ## ]]\n{LONG}\nHandle the empty list.\n\n[[ ## completed ## ]]"
    if field == "shortened_instruction":
        return f"[[ ## shortened_instruction ## ]]\n{LONG}\n\n[[ ## completed ## ]]"
    if field == "label":
        return "[[ ## label ## ]]\nnone of them\n\n[[ ## completed ## ]]"
    return (
        '[[ ## diagnosis ## ]]\n{"failure_class": "edge_case", "root_cause": "x", "rule": "Handle the empty list."}'
        "\n\n[[ ## completed ## ]]"
    )


def student(instruction: str) -> Any:
    import dspy

    return dspy.Predict(dspy.Signature("text -> label", instruction))


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_a_start_of_two_thousand_words_is_improved_like_any_other(strategy: str) -> None:
    assert len(LONG) > 10_000
    evolved, seen, _ = compiled(exact, student(LONG), never, strategy=strategy, epochs=2)
    results = evolved.detailed_results
    told = [batch.reason for batch in results.batches]
    assert not any("too long" in reason or "characters, more than" in reason for reason in told)
    assert any("Handle the empty list." in text for text in seen if LONG.splitlines()[1] in text)
    assert "{problem}" in evolved.predictors()[0].signature.instructions


@pytest.mark.parametrize("start", [LONG, "Write it.", "处理空列表。\n" * 3 + "返回结果。"])
def test_a_target_is_reached_by_what_was_solved_alone(start: str) -> None:
    evolved, _, _ = compiled(exact, student(start), never, strategy="factorial", epochs=3, target=5)
    results = evolved.detailed_results
    assert "reaches the target" not in results.stopped
    assert results.batches
    for batch in results.batches:
        (points,) = re.findall(r"([-+][\d.]+) points expected", batch.reason)
        assert -100 <= float(points) <= 100


def test_nothing_of_a_long_start_is_dropped_before_it_was_left_out_once() -> None:
    evolved, _, _ = compiled(exact, student(LONG), never, strategy="factorial", epochs=1)
    first = evolved.detailed_results.batches[0]
    assert all(rule.kept for rule in first.rules if rule.start)


def test_a_rule_may_be_as_long_as_the_start_has_them() -> None:
    sentence = "Mind " + "very " * MAX_WORDS + "long words."
    assert screen_rule(sentence, ()) is not None
    assert screen_rule(sentence, (), 2 * MAX_WORDS) is None
