"""The simulated debugger and prompt engineer: they work from the text they are shown and from nothing else."""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections import Counter
from collections.abc import Iterator

from evoprompt.lm.simulated_concepts import (
    World,
    chance,
    concepts,
    is_chatter,
    phrase,
    pick,
    sayings,
    sentences,
    stated_rules,
    topics,
)
from evoprompt.lm.simulated_text import Reading, fenced, json_list, parsed
from evoprompt.tasks import parse_python

_CURRENT = ("current_instruction", "current_instruction_doc", "basic_instruction", "instruction", "instructions")
_COMMON = ("empty", "negative", "types", "imports", "print", "name")
_LIMIT = re.compile(r"at most (\d+) characters")


def diagnose(prompt: str, code: str, failures: str, world: World, *where: object) -> str:
    """The concept that explains the failures best, now and then a wrong one.

    Args:
        prompt: The problem.
        code: The solution that failed.
        failures: A JSON list of failures, or any text about them.
        world: Gives the probability of a wrong diagnosis.
        where: What the randomness may depend on: the text of the request.
    """
    scores = _evidence(prompt, fenced(code), failures)
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


def _evidence(prompt: str, code: str, failures: str) -> dict[str, float]:
    """How strongly the shown texts speak for every concept."""
    told = json_list(failures) or [{"observed": failures, "hint": failures}]
    observed = " ".join(str(f.get("observed", "")) for f in told)
    problem = phrase("empty_result").sub("that", prompt.lower())
    wanted = {name for name, c in concepts().items() if c.demanded.search(problem)}
    built = {name for name, c in concepts().items() if c.built.search(code)}
    scores = dict.fromkeys(concepts(), 0.0)
    for name, concept in concepts().items():
        scores[name] += sum(w for pattern, w in concept.observed.items() if re.search(pattern, observed))
        # What the problem demands and the code lacks is the best explanation of a wrong value.
        if name in wanted:
            scores[name] += 0.5 if name in built else 2.5
        elif name in built:
            scores[name] -= 0.5
    # Off by one leaves its construct in the code: it is the guess when nothing that is demanded is missing.
    scores["boundary"] += 1.5 if "boundary" in wanted and wanted <= built else 0
    for name, weight in (*_hinted(problem, told), *_in_code(prompt, code, told)):
        scores[name] += weight
    return scores


def _hinted(problem: str, told: list[dict[str, object]]) -> Iterator[tuple[str, float]]:
    """What is special about the failing inputs; a hint that stands alone says more than one among many."""
    for failure in told:
        hint, call = str(failure.get("hint", "")).lower(), str(failure.get("call", ""))
        found = {name for name, c in concepts().items() if c.hinted.search(hint) or c.called.search(call)}
        if "zero" in found and phrase("not_positive").search(problem):
            found = found - {"zero"} | {"negative"}
        yield from ((name, 4.0 / (1 + len(found)) / len(told)) for name in found)


def _in_code(prompt: str, code: str, told: list[dict[str, object]]) -> Iterator[tuple[str, float]]:
    """What a look at the code shows for certain, or nearly so."""
    try:
        nodes = list(ast.walk(parse_python(code)))
    except (SyntaxError, ValueError, RecursionError):
        nodes = []
    if not nodes or "input(" in code or any(f.get("status") == "invalid" for f in told):
        yield "format", 9
        return
    called = {m.group(1) for f in told if (m := re.match(r"\s*(\w+)\(", str(f.get("call", ""))))}
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    if called and defined and not called <= defined:
        yield "name", 9
    if _undefined(nodes):
        yield "imports", 8
    if re.search(r"\bprint\(", code):
        yield "print", 9
    if "None" not in prompt:
        # A guard that gives back None is the usual slip for a default.
        for test in re.findall(r"if (.+):\n +return None", code):
            yield from (("empty", 4) for _ in re.findall(r"^not |len\(", test))
            yield from (("negative", 4) for _ in re.findall(r"< 0|<= 0|< 1", test))
            yield from (("zero", 4) for _ in re.findall(r"== 0", test))


def _undefined(nodes: list[ast.AST]) -> set[str]:
    """Names that are used and never bound."""
    names = [n for n in nodes if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {(n.asname or n.name).split(".")[0] for n in nodes if isinstance(n, ast.alias)}
    bound |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
    return {n.id for n in names} - bound - set(dir(builtins))


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
        kept += self._rules(_untried(stated, missing, reading, world.rules_per_call), *where)
        if chance(*where, "chatter") < (world.chatter if counts else 0.5):
            kept.append(pick(sayings("chatter"), *where, "chat"))
        text = _joined(kept if len(" ".join(kept).split()) <= world.long else _merged(kept))
        limit = _LIMIT.search(reading.inputs.get("length_limit", ""))
        return shortened(text, int(limit[1])) if limit else text

    def advice(self, reading: Reading) -> dict[str, str]:
        """SIMBA: what to tell each module."""
        where, inputs = (self.seed, reading.everything), reading.inputs
        names = parsed(inputs.get("module_names", ""))
        modules = names if isinstance(names, list) else re.findall(r"[\w.\[\]]+", inputs.get("module_names", "self"))
        told, shown = inputs.get("worse_reward_info", ""), inputs.get("worse_program_outputs", "")
        outputs = parsed(shown)
        code = str(outputs.get("code", "")) if isinstance(outputs, dict) else shown
        seen = Counter(stated_rules(told))
        seen[diagnose(inputs.get("program_inputs", ""), code, f"{told} {shown}", self.world, *where)] += 2
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


def shortened(text: str, limit: int) -> str:
    """As many sentences as fit; those that state a rule go first, the sequence stays."""
    parts = sentences(text)
    chosen: list[int] = []
    for index in sorted(range(len(parts)), key=lambda i: (not stated_rules(parts[i]), i)):
        if len(" ".join(parts[i] for i in sorted([*chosen, index]))) <= limit:
            chosen.append(index)
    return " ".join(parts[i] for i in sorted(chosen)) or text[:limit]


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
    rule = f"Follow what the problem says about {', '.join(names[:-1])} and {names[-1]}."
    return [p for p in parts if p not in old] + [rule] if len(names) > 1 else parts


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
