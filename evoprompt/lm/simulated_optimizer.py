"""The simulated prompt engineer: rewrites instructions for whichever optimizer asks, from the text it is shown."""

from __future__ import annotations

import json
import re
from collections import Counter

from evoprompt.lm.mutate import CONCEPTS
from evoprompt.lm.simulated_concepts import is_chatter, sentences, stated_rules, topics
from evoprompt.lm.simulated_debugger import diagnose
from evoprompt.lm.simulated_phrases import CHATTER, RULES
from evoprompt.lm.simulated_text import Reading, fenced, json_list, normal
from evoprompt.lm.simulated_world import World, chance, pick

_CURRENT = ("current_instruction", "current_instruction_doc", "basic_instruction", "instruction", "instructions")
_COMMON = ("empty", "negative", "types", "imports", "print", "name")
_LIMIT = re.compile(r"at most (\d+) characters")


class Optimizer:
    """Improves instructions."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world = seed, world

    def rewrite(self, reading: Reading) -> str:
        """The current instruction with rules for the most frequent failures, and without chatter."""
        where = (self.seed, reading.everything)
        current = current_instruction(reading)
        counts = self.failures(reading)
        kept = _merged(sentences(current))
        rules = [i for i, s in enumerate(kept) if stated_rules(s)]
        if len(rules) > 1 and chance(*where, "forget") < self.world.forget:
            del kept[pick(rules, *where, "forgotten")]
        stated = stated_rules(" ".join(kept))
        missing = [c for c in _ranked(counts) if c not in stated]
        if not counts and chance(*where, "guess") < self.world.guess:
            missing = [pick(_COMMON, *where, "guess")]
            missing = [c for c in missing if c not in stated]
        kept += self.sentences(_untried(stated, missing, reading, self.world.rules_per_call), *where)
        if not counts or chance(*where, "chatter") < self.world.chatter:
            kept += [pick(CHATTER, *where, "chat")] if chance(*where, "talks") < 0.5 or counts else []
        text = _joined(kept) or "Write a correct Python function that solves the problem."
        limit = _LIMIT.search(reading.inputs.get("length_limit", ""))
        return shortened(text, int(limit[1])) if limit else text

    def sentences(self, concepts: list[str], *where: object) -> list[str]:
        """Rules for the first few concepts."""
        return [pick(RULES[c], *where, c) for c in concepts[: self.world.rules_per_call]]

    def failures(self, reading: Reading) -> Counter[str]:
        """How often each concept shows in what went wrong, as far as the request tells."""
        found: Counter[str] = Counter()
        for name, text in reading.inputs.items():
            if name == "failures":
                found += _groups(text)
            elif name in ("examples_with_feedback", "dataset_with_feedback"):
                for item in json_list(text):
                    found += self._reflect(item)
            elif re.search(r"feedback|diagnos|reward_info|dataset_description|observations|task_demos", name):
                found += _mentions(text)
        if "<plain>" in reading.inputs or not reading.inputs:
            for feedback in re.split(r"^## Feedback\s*$", reading.user, flags=re.MULTILINE)[1:]:
                found += _mentions(re.split(r"^# Example", feedback, flags=re.MULTILINE)[0])
        return found

    def advice(self, reading: Reading) -> dict[str, str]:
        """SIMBA: what to tell each module."""
        where = (self.seed, reading.everything)
        names = _names(reading.inputs.get("module_names", ""))
        program = reading.inputs.get("modules_defn", "")
        seen = Counter(dict.fromkeys(stated_rules(_trajectory(reading)), 1))
        prompt, code = reading.inputs.get("program_inputs", ""), _shown_code(reading)
        told = reading.inputs.get("worse_reward_info", "") + " " + reading.inputs.get("worse_program_outputs", "")
        seen[diagnose(prompt, code, told, self.world, *where)] += 2
        new = [c for c in _ranked(seen) if c not in stated_rules(program)]
        text = " ".join(self.sentences(new[:2], *where)) or pick(CHATTER, *where, "advice")
        return dict.fromkeys(names, text)

    def _reflect(self, item: dict[str, object]) -> Counter[str]:
        """One example of GEPA: its inputs, the outputs, and the feedback of the metric."""
        feedback = str(next((v for k, v in item.items() if "feedback" in k.lower()), ""))
        if re.search(r"all tests passed", feedback, re.IGNORECASE):
            return Counter()
        named = stated_rules(feedback)
        if len(named) == 1:
            return Counter(named)
        inputs = json.dumps(item.get("Inputs", item.get("inputs", "")), ensure_ascii=False)
        outputs = item.get("Generated Outputs", item.get("outputs", ""))
        code = str(outputs.get("code", "")) if isinstance(outputs, dict) else str(outputs)
        concept = diagnose(inputs, code, feedback, self.world, self.seed, inputs, code, feedback)
        return Counter([concept])


def _untried(stated: frozenset[str], missing: list[str], reading: Reading, most: int) -> list[str]:
    """The next rules to add, passing over a combination that an earlier attempt has shown to be worse."""
    attempts = json_list(reading.inputs.get("attempts", ""))
    worse = {stated_rules(str(a.get("instruction", ""))) for a in attempts if a.get("accepted") is False}
    for start in range(len(missing)):
        chosen = missing[start : start + most]
        if stated | set(chosen) not in worse:
            return chosen
    return missing


def current_instruction(reading: Reading) -> str:
    """The instruction to improve, wherever the optimizer put it."""
    for name in _CURRENT:
        if reading.inputs.get(name):
            return reading.inputs[name]
    attempts = reading.inputs.get("attempted_instructions", "")
    if attempts:
        return _best_attempt(attempts)
    return fenced(reading.user) if "```" in reading.user else ""


def shortened(text: str, limit: int) -> str:
    """As many sentences as fit; those that state a rule go first, the sequence stays."""
    parts = sentences(text)
    order = sorted(range(len(parts)), key=lambda i: (not stated_rules(parts[i]), i))
    chosen: list[int] = []
    for index in order:
        if len(" ".join(parts[i] for i in sorted([*chosen, index]))) <= limit:
            chosen.append(index)
    return " ".join(parts[i] for i in sorted(chosen)) or text[:limit]


def observations(text: str) -> str:
    """MIPROv2: what the shown tasks have in common."""
    counts = _mentions(text)
    subjects = {
        "empty": "what to return for empty input",
        "negative": "negative numbers",
        "case": "letter case",
        "whitespace": "surrounding white space",
        "rounding": "rounding to decimals",
        "ties": "how ties are broken",
        "duplicates": "repeated values",
        "order": "the order of the result",
        "mutation": "leaving the input unchanged",
        "types": "booleans and types",
        "boundary": "inclusive bounds",
    }
    told = [subjects[c] for c in _ranked(counts) if c in subjects][:4]
    extra = f" Many of them spell out {', '.join(told)}." if told else ""
    return f"The data set holds short Python programming problems, each to be solved by one function.{extra}"


def _merged(parts: list[str]) -> list[str]:
    """The sentences without chatter, and without those that only repeat earlier rules."""
    kept: list[str] = []
    known: set[str] = set()
    for part in parts:
        rules = stated_rules(part)
        repeated = (bool(rules) and rules <= known) or part in kept
        if not repeated and not is_chatter(part):
            kept.append(part)
            known |= rules
    return kept


def _joined(parts: list[str]) -> str:
    """Running text, or a list when the instruction was one."""
    bullets = [p for p in parts if p.startswith(("- ", "* "))]
    if not bullets:
        return " ".join(parts)
    text = " ".join(parts[: parts.index(bullets[0])])
    rest = [p if p in bullets else f"- {p}" for p in parts[parts.index(bullets[0]) :]]
    return "\n".join([text, *rest]).strip()


def _groups(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for group in json_list(text):
        count = group.get("count", 1)
        weight = count if isinstance(count, int) else 1
        rule = stated_rules(str(group.get("rule", "")))
        for concept in rule or topics(str(group.get("example", ""))):
            found[concept] += weight
    return found if found else Counter(stated_rules(text))


def _mentions(text: str) -> Counter[str]:
    return Counter(c for part in sentences(text) for c in topics(part) if c not in ("name", "format", "print"))


def _ranked(counts: Counter[str]) -> list[str]:
    order = {c: i for i, c in enumerate(CONCEPTS)}
    return sorted((c for c in counts if c in RULES), key=lambda c: (-counts[c], order[c]))


def _best_attempt(text: str) -> str:
    """COPRO: the instruction with the highest score; its list is sorted, best last."""
    found = re.findall(
        r"Instruction #(\d+): (.*?)(?=[\"'\]»]*\s*(?:,|\[\d+\])?\s*[\"'«]*Prefix #\1:)", text, flags=re.DOTALL
    )
    scores = {n: float(s) for n, s in re.findall(r"Resulting Score #(\d+): ([\d.]+)", text)}
    if not found:
        return ""
    best = max(found, key=lambda item: (scores.get(item[0], 0.0), int(item[0])))
    return str(best[1]).replace("\\n", "\n")


def _names(text: str) -> list[str]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, list):
        return [str(item) for item in data]
    return [n for n in re.findall(r"[\w.\[\]]+", text) if n] or ["self"]


def _trajectory(reading: Reading) -> str:
    return normal(reading.inputs.get("worse_reward_info", ""))


def _shown_code(reading: Reading) -> str:
    outputs = reading.inputs.get("worse_program_outputs", "")
    try:
        data = json.loads(outputs)
    except (ValueError, RecursionError):
        return fenced(outputs)
    return str(data.get("code", "")) if isinstance(data, dict) else ""
