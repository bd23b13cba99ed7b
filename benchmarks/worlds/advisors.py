"""The simulated debugger and prompt engineer: they work from the text they are shown and from nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

from benchmarks.worlds.concepts import (
    World,
    chance,
    concepts,
    is_chatter,
    pick,
    sayings,
    sentences,
    stated_rules,
    topics,
)
from benchmarks.worlds.evidence import evidence
from benchmarks.worlds.text import fenced, json_list, parsed
from evoprompt.simulation.text import Reading

_CURRENT = (
    *("current_instruction", "current_instruction_doc", "basic_instruction", "instruction", "instructions"),
    *("current_instructions", "current_prompt", "base_instruction", "seed_instruction"),
)
_COMMON = ("empty", "negative", "types", "imports", "print", "name")
_LIMIT = re.compile(r"at most \d+ (?:characters|words)")


def diagnose(prompt: str, code: str, failures: str, world: World, *where: object) -> str:
    """The concept that explains the failures best, now and then a wrong one.

    Args:
        prompt: The problem.
        code: The solution that failed.
        failures: A JSON list of failures, or any text about them.
        world: Gives the probability of a wrong diagnosis.
        where: What the randomness may depend on: the text of the request.
    """
    scores = evidence(prompt, fenced(code), failures)
    best = max(concepts(), key=lambda c: (scores[c], chance(*where, c, "break")))
    best = best if scores[best] > 0 else "logic"
    if chance(*where, "misdiagnosis") < world.misdiagnosis:
        return pick([c for c in concepts() if c != best], *where, "wrong")
    return best


def diagnosis(concept: str, fixed_code: str, world: World, *where: object) -> dict[str, str]:
    """A diagnosis in the shape of `signatures.Diagnosis`."""
    known = concepts()[concept]
    return {
        "failure_class": known.failure_class,
        "root_cause": pick(known.causes, *where, "cause"),
        "rule": advise(concept, world, *where, "rule"),
        "fixed_code": fixed_code,
    }


def advise(concept: str, world: World, *where: object) -> str:
    """A rule for the concept, in one of its wordings; in some worlds a rule that only sounds like one."""
    if chance(*where, "useless") < world.useless:
        return pick(sayings("useless"), *where, "useless")
    known = concepts()[concept]
    return pick((*known.rules, *known.paraphrases) if world.paraphrase else known.rules, *where)


class Optimizer:
    """Improves instructions for whichever optimizer asks."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world = seed, world

    def rewrite(self, reading: Reading) -> str:
        """The current instruction with rules for the most frequent failures, and without chatter."""
        where, world = (self.seed, reading.everything), self.world
        counts = self._failures(reading)
        kept = _unrepeated(sentences(current_instruction(reading)))
        rules = [s for s in kept if stated_rules(s)]
        if len(rules) > 1 and chance(*where, "forget") < world.forget:
            kept.remove(pick(rules, *where, "forgotten"))
        stated = stated_rules(" ".join(kept))
        if not counts and chance(*where, "guess") < world.guess:
            counts = Counter([pick(_COMMON, *where, "guess")])
        missing = [c for c in _ranked(counts) if c not in stated]
        if world.useless:
            kept += _adopted(reading.inputs.get("failures", ""), kept)
        kept += self._rules(_untried(stated, missing, reading, world.rules_per_call), *where)
        if chance(*where, "chatter") < (world.chatter if counts else 0.5):
            kept.append(pick(sayings("chatter"), *where, "chat"))
        text = _joined(kept if len(" ".join(kept).split()) <= world.long else _merged(kept))
        limit = reading.inputs.get("length_limit", "")
        return shortened(text, limit) if _LIMIT.search(limit) else text

    def advice(self, reading: Reading) -> dict[str, str]:
        """SIMBA: what to tell each module."""
        where, inputs = (self.seed, reading.everything), reading.inputs
        names = parsed(inputs.get("module_names", ""))
        modules = names if isinstance(names, list) else re.findall(r"[\w.\[\]]+", inputs.get("module_names", "self"))
        told, shown = inputs.get("worse_reward_info", ""), inputs.get("worse_program_outputs", "")
        outputs, info = parsed(shown), parsed(told)
        lines = "\n".join(map(str, info.values())) if isinstance(info, dict) else ""
        code = str(outputs.get("code", "")) if isinstance(outputs, dict) else shown
        seen = Counter(stated_rules(told))
        seen[diagnose(inputs.get("program_inputs", ""), code, f"{told} {shown}\n{lines}", self.world, *where)] += 2
        new = [c for c in _ranked(seen) if c not in stated_rules(inputs.get("modules_defn", ""))]
        text = " ".join(self._rules(new[:2], *where)) or pick(sayings("chatter"), *where, "advice")
        return {str(name): text for name in modules}

    def _rules(self, names: list[str], *where: object) -> list[str]:
        return [advise(c, self.world, *where, c) for c in names[: self.world.rules_per_call]]

    def _failures(self, reading: Reading) -> Counter[str]:
        """How often each concept shows in what went wrong, as far as the request tells."""
        found: Counter[str] = Counter()
        for name, text in reading.inputs.items():
            if name == "failures":
                found += _groups(text)
            elif name in ("examples_with_feedback", "dataset_with_feedback"):
                found += Counter(c for item in json_list(text) for c in self._reflect(item))
            elif re.search(r"feedback|diagnos|reward_info|dataset_description|observations|task_demos", name):
                found += _mentions(text)
            elif name != "rules" and any("rule" in item for item in json_list(text)):
                found += _groups(text)
        if not reading.inputs:
            for feedback in re.split(r"^## Feedback\s*$", reading.user, flags=re.MULTILINE)[1:]:
                found += _mentions(re.split(r"^# Example", feedback, flags=re.MULTILINE)[0])
        return found

    def _reflect(self, item: dict[str, object]) -> frozenset[str]:
        """One example of GEPA: its inputs, the outputs, and the feedback of the metric."""
        feedback = str(next((v for k, v in item.items() if "feedback" in k.lower()), ""))
        named = stated_rules(feedback)
        if "all tests passed" in feedback.lower() or len(named) == 1:
            return named
        inputs = json.dumps(item.get("Inputs", ""), ensure_ascii=False)
        outputs = item.get("Generated Outputs", "")
        code = str(outputs.get("code", "")) if isinstance(outputs, dict) else str(outputs)
        return frozenset([diagnose(inputs, code, feedback, self.world, self.seed, inputs, code, feedback)])


def current_instruction(reading: Reading) -> str:
    """The instruction to improve, wherever the optimizer put it."""
    given = next((reading.inputs[name] for name in _CURRENT if reading.inputs.get(name)), "")
    attempts = reading.inputs.get("attempted_instructions", "")
    return given or (_best_attempt(attempts) if attempts else fenced(reading.user) if "```" in reading.user else "")


def shortened(text: str, limit: str) -> str:
    """As much as fits into so many characters, or words; rules go first, and topics share a sentence if they must."""
    number = re.search(r"\d+", limit)
    most, by_word = int(number.group()) if number else 1000, "word" in limit

    def fits(parts: list[str]) -> bool:
        joined = " ".join(parts)
        return (len(joined.split()) if by_word else len(joined)) <= most

    options = [_fitting(parts, fits) for parts in (sentences(text), _merged(sentences(text)))]
    best = max(options, key=lambda parts: len(stated_rules(" ".join(parts))))  # the text as it was, if it says as much
    return " ".join(best) or (" ".join(text.split()[:most]) if by_word else text[:most])


def _fitting(parts: list[str], fits: Callable[[list[str]], bool]) -> list[str]:
    chosen: list[int] = []
    for index in sorted(range(len(parts)), key=lambda i: (not stated_rules(parts[i]), i)):
        if fits([parts[i] for i in sorted([*chosen, index])]):
            chosen.append(index)
    return [parts[i] for i in sorted(chosen)]


def observations(text: str) -> str:
    """MIPROv2: what the shown tasks have in common."""
    told = [concepts()[c].topic for c in _ranked(_mentions(text)) if concepts()[c].topic][:4]
    extra = f" Many of them spell out {', '.join(told)}." if told else ""
    return f"The data set holds short Python programming problems, each to be solved by one function.{extra}"


def _unrepeated(parts: list[str]) -> list[str]:
    """The sentences without chatter, and without those that only repeat earlier rules."""
    kept: list[str] = []
    for part in parts:
        rules = stated_rules(part)
        repeated = part in kept or (rules and rules <= stated_rules("\n".join(kept)))
        if not repeated and not is_chatter(part):
            kept.append(part)
    return kept


def _merged(parts: list[str]) -> list[str]:
    """The sentences with one rule in the place of all whose concepts have a short name."""
    short = {name: concept.topic for name, concept in concepts().items() if concept.topic}
    old = [p for p in parts if stated_rules(p) and stated_rules(p) <= set(short)]
    names = [topic for name, topic in short.items() if name in stated_rules("\n".join(old))]
    if len(names) < 2:
        return parts
    rule = f"Follow what the problem says about {', '.join(names[:-1])} and {names[-1]}."
    return [p for p in parts if p not in old] + [rule]


def _joined(parts: list[str]) -> str:
    """Running text, or a list when the instruction was one."""
    bullets = [p for p in parts if p.startswith(("- ", "* "))]
    if not bullets:
        return " ".join(parts) or "Write a correct Python function that solves the problem."
    start = parts.index(bullets[0])
    rest = [p if p in bullets else f"- {p}" for p in parts[start:]]
    return "\n".join([" ".join(parts[:start]), *rest]).strip()


def _untried(stated: frozenset[str], missing: list[str], reading: Reading, most: int) -> list[str]:
    """The next rules to add, passing over a combination that an earlier attempt has shown to be worse."""
    attempts = json_list(reading.inputs.get("attempts", ""))
    worse = {stated_rules(str(a.get("instruction", ""))) for a in attempts if a.get("accepted") is False}
    windows = (missing[start : start + most] for start in range(len(missing)))
    return next((w for w in windows if stated | set(w) not in worse), missing)


def _groups(text: str) -> Counter[str]:
    """What the groups of failures are about, with their sizes."""
    found: Counter[str] = Counter()
    for group in json_list(text):
        count = group.get("count", 1)
        for concept in stated_rules(str(group.get("rule", ""))) or topics(str(group.get("example", ""))):
            found[concept] += count if isinstance(count, int) else 1
    return found or Counter(stated_rules(text))


def _adopted(text: str, kept: list[str]) -> list[str]:
    """The rule of the first group of failures, taken over as it is, when it states nothing that is known."""
    rule = next((str(group.get("rule", "")).strip() for group in json_list(text)), "")
    return [rule] if rule and not (rule in kept or stated_rules(rule) or is_chatter(rule)) else []


def _mentions(text: str) -> Counter[str]:
    return Counter(c for part in sentences(text) for c in topics(part) if c not in ("name", "format", "print"))


def _ranked(counts: Counter[str]) -> list[str]:
    """The concepts that a rule prevents, most frequent first."""
    return sorted((c for c in concepts() if counts[c] and c != "logic"), key=lambda c: -counts[c])


def _best_attempt(text: str) -> str:
    """COPRO: the instruction with the highest score; its list is sorted, best last."""
    end = r"(?=[\"'\]»]*\s*(?:,|\[\d+\])?\s*[\"'«]*Prefix #\1:)"
    found = re.findall(rf"Instruction #(\d+): (.*?){end}", text, flags=re.DOTALL)
    scores = {n: float(s) for n, s in re.findall(r"Resulting Score #(\d+): ([\d.]+)", text)}
    best = max(found, key=lambda item: (scores.get(item[0], 0.0), int(item[0])), default=("", ""))
    return str(best[1]).replace("\\n", "\n")
