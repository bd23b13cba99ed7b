"""How people say it: the patterns by which the simulated model understands rules, neglect and small talk."""

from __future__ import annotations

import re

_ABOUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "empty",
        (
            r"\bempt(y|iness)\b|zero[- ]length|\blength (of )?(zero|0)\b|\bblank\b|\bnull\b",
            r"\bnothing in\b|\bmissing (input|value|data|argument|item)",
            r"\b(no|without( any)?|lack\w*) (elements?|items?|entries|values?|characters?)\b",
            r"\b(no|without( any)?|lack\w*) (content|data|words?)\b",
            r"\b(no|without( any)?|lack\w*) input\b(?!\()|\bnone (inputs?|arguments?|values?)",
        ),
    ),
    (
        "negative",
        (
            r"\bnegatives?\b|\b(below|under|(less|smaller|lower) than) (zero|0)\b|\bminus\b|\bsigns?\b",
            r"< ?0\b|\babsolute values?|\bmagnitudes?\b|\bnon-?positive",
        ),
    ),
    (
        "zero",
        (
            r"(?<!integer )(?<!floor )(?<!true )\bdivi(de|des|ding|sion|sions|sors?)\b(?! and conquer)",
            r"\bdenominator",
            r"(?<!below )(?<!under )(?<!than )(?<!length )(?<!length of )\bzero(es|s)?\b(?![- ]length)",
        ),
    ),
    (
        "case",
        (
            r"\bcase[- ]?(in)?(sensitiv|fold|blind|different)|\bcapital|\bcasefold|\bsame case\b",
            r"\b(letter|upper|lower|mixed|different|character|title)[- ]?case",
            r"\b(regardless|irrespective|independent) of (the )?(letter )?case\b",
            r"\bignor\w+ (the )?case\b(?!s)",
            r"\bcase of (the )?(letter|text|character|word|string)|\bnormali[sz]\w* case\b",
            r"(?<!edge )(?<!corner )(?<!special )(?<!base )\bcase (does|must|should|may|might|differ|never)",
        ),
    ),
    (
        "whitespace",
        (
            r"\bwhite-?\s?space|\bstrip(ped|s|ping)?\b|\btrim|\btabs\b|\bspaces\b|\bnewlines\b|\bpadding\b",
            r"\b(leading|trailing|surrounding|extra|stray|padding) (and \w+ )?(blanks|tabs)",
        ),
    ),
    (
        "rounding",
        (
            r"\bround(s|ed|ing)?\b(?! (trip|of\b))|\bdecimals?\b|\bprecision\b",
            r"\bsignificant (digits|figures)",
            r"\bfractional digits",
        ),
    ),
    (
        "ties",
        (
            r"\bties?\b|\btie-?break|\btied\b|\bequally (often|frequent|long|good|ranked)",
            r"\b(equal|identical|same) (counts?|scores?|keys?|frequenc|ranks?|lengths?|sort)",
            r"\b(rank|score|compare|sort|count)\w* (the same|equal(ly)?)\b|\bsecondary (key|criteri|order)",
        ),
    ),
    (
        "duplicates",
        (
            r"\bduplicat|\bde-?dup|\brepeat(ed|s|ing)?\b|\bmore than once|\bseveral times|\bmultiple times",
            r"\bdistinct\b|\buniqu|\brecurr(ing|ent)|\btwice\b",
        ),
    ),
    (
        "boundary",
        (
            r"\bboundar|\boff[- ]by[- ]one|\binclusive|\bexclusive|\bend ?-?points?\b|\bbounds\b",
            r"\bboth (ends|bounds|limits)|\b(upper|lower|interval|range) (ends?|bounds?|limits?)\b",
            r"\bfence-?post",
            r"\bthresholds?\b|\bborders?\b|\blimits are included|\bfirst and (the )?last\b",
        ),
    ),
    (
        "mutation",
        (
            r"\bmutat|\bin[- ]place\b|\bside[- ]effects?|\bcop(y|ies)\b",
            r"\b(modif|chang|alter|touch)\w* (the |its |any |your )?(caller|input|argument|param|origin)",
            r"\b(unchanged|intact|untouched|unmodified)\b",
        ),
    ),
    (
        "order",
        (
            r"\bsort(ed|ing|s)?\b(?! key)|\b(as|des)cending|\border the\b|\bordering\b",
            r"\border (of|in which) (the )?(result|output|element|item|return|appearance|argument|value)",
            r"\b(requested|required|stated|demanded|specified|right|correct|asked|given) order\b",
            r"\b(described|prescribed|output|result|either|any) order\b",
        ),
    ),
    (
        "types",
        (
            r"\bbool(ean)?s?\b|\b(integer|floor|true) division|\bisinstance\b|\btypes? (of|check)",
            r"\bmixed types",
            r"\b(exact|right|correct|return|result|output|data|value|stated|requested) types?\b",
            r"\b(expected|declared|required|documented) types?\b",
            r"\bints? (and|or|vs|versus|from) floats?|\bfloats? (and|or|vs|versus|from) ints?",
        ),
    ),
    (
        "print",
        (
            r"\bprint(s|ed|ing)?\b|\bmust return\b|\breturn statement|\breturn\w* rather than",
            r"\breturns? (its|the|your|a|their|that) (final )?(results?|values?|answers?|outputs?)\b",
        ),
    ),
    (
        "name",
        (
            r"\b(exact(ly)?|given|same|requested|required|specified|right|correct|stated)\b[^.]{0,20}\bnames?\b",
            r"\bnamed? exactly|\bentry[- ]?point|\brenam|\bfunction'?s? names?|\bsignature\b",
            r"\bcalled exactly",
            r"\bnames? (of|and) (the )?(function|param)",
        ),
    ),
    ("imports", (r"\bimport(s|ed|ing)?\b",)),
    (
        "format",
        (
            r"\binput\(|\bstdin\b|\bnothing (else|but)\b|\bcode (block|fence)|\bfenced?\b|\bprose\b",
            r"\bvalid python\b",
            r"\b(only|just) (the |valid |python )*(code|function|program)\b|\bcommentary\b|\binteractive\b",
            r"\bexamples? (calls?|usages?|runs?)|\busage examples?|\bexplanations?\b|\btest code\b",
            r"\btop[- ]level (calls?|code|statements?|examples?)|\bdemo(nstration)?( code| calls?)?\b",
        ),
    ),
)


def _either(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts))


ABOUT: tuple[tuple[str, re.Pattern[str]], ...] = tuple((concept, _either(*parts)) for concept, parts in _ABOUT)
"""For every concept that a rule can prevent, how it is spoken of (lower case)."""

VAGUE = _either(
    r"\bcareful|\b(edge|corner|special|border|unusual|boundary) (cases?|inputs?|conditions?)",
    r"\brobust|\bthorough",
    r"\bthink (step|care|hard|about|through)|\ball (possible )?(inputs|cases)|\bpay attention",
    r"\bdouble-?check",
    r"\bbug-?free|\bunexpected input|\bconsider (all|every)|\bcorrectness\b|\bdefensive",
)

BOAST = _either(r"\byou are (an?|the) ", r"\bexpert\b", r"\bworld-class", r"\btake a deep breath", r"\bhigh[- ]quality")

CLAUSE = _either(
    r"[;:!?\n•]+",
    r"\.(?=\s|$)",
    r",? (?:but|however|although|though|whereas|yet)\b",
    r"(?:^|\s)[-*] ",
    r"(?:^|\s)\d+[.)] ",
)

_NOT = r"\b(?:do not|don't|never|must not|should not|shouldn't|cannot|can't|avoid|not to)\b"

DOUBLE = re.compile(
    _NOT + r" (?:ever )?(?:ignor|skip|neglect|disregard|forget|overlook|assum|omit|miss)\w*",
)
""" "Never skip", "do not assume": two negations make a rule."""

_CARE = (
    r"(?:worry|care|bother|handl|check|consider|deal|think|guard|treat|mind|account|validat|special-cas|cover"
    r"|look|concern|support|need)\w*"
)
NEGLECT = _either(
    rf"{_NOT} (?:ever )?(?:be )?{_CARE}",
    rf"\b(?:no need to|need not|needn't|without) (?:be )?{_CARE}",
    rf"\bnot (?:necessary|required|needed) to {_CARE}",
    rf"\b(?:do not|does not|don't) (?:have|need) to {_CARE}",
    rf"\bnot {_CARE}",
)

IGNORE = re.compile(r"\b(?:ignor\w+|disregard\w*|skip\w*|forget\w*|neglect\w*|overlook\w*|omit\w*|leave out)\b")

GIVEN = _either(
    r"\bassum(?:e|es|ing)\b|\bguaranteed\b|\bcan be (?:ignored|skipped|neglected|disregarded)|\bneed not\b",
    r"\b(?:is|are) (?:not important|irrelevant|unimportant|impossible|never)\b|\bnever occur|\bdo not occur",
    r"\b(?:inputs?|arguments?|values?|data|lists?|strings?|numbers?|they) (?:will |can )?never\b",
    r"\b(?:inputs?|arguments?|values?|data|lists?|strings?|numbers?|they) (?:won't|will not|cannot|can't)\b",
)
"""The whole clause says that there is nothing to do."""

ABSENT = re.compile(r"\b(?:there (?:are|is|will be)|(?:contains?|has|have)) no\b|\bno inputs? (?:is|are|will)\b")
CONDITION = re.compile(r"\b(?:if|when|whenever|case that|check|ensure|verify|make sure|handl|guard|cover|treat)")
NO_MATTER = re.compile(r"\b(?:does not|doesn't|do not|don't) matter\b")

IGNORABLE = frozenset({"case", "whitespace", "duplicates", "format"})
"""Of these one can say "ignore it" and mean the rule: ignore case, leave out the prose."""

EDGES = frozenset({"empty", "negative", "zero", "whitespace", "boundary", "duplicates", "types"})
"""What general advice to mind the edge cases is about."""
