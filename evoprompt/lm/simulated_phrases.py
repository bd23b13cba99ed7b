"""The sentences of the simulated model: rules, mistakes, small talk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from signatures import FailureClass

RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "empty": (
            "Handle empty input first and give back what the problem documents for it.",
            "Before indexing, check that the input is not empty.",
            "Cover the case that there are no elements at all.",
            "Decide explicitly what a blank or empty argument yields.",
        ),
        "negative": (
            "Make sure that negative numbers are treated as the problem demands.",
            "Treat values below zero explicitly, including negative counts and sizes.",
            "Consider the sign of every number and use absolute values where only the magnitude matters.",
            "Guard against negative arguments before the main computation.",
        ),
        "zero": (
            "Check the denominator before every division.",
            "Treat a zero argument on its own, above all before dividing.",
            "Guard every division by a value that can be zero.",
        ),
        "case": (
            "Compare text case-insensitively when the problem asks for it.",
            "Normalise upper-case and lower-case letters before comparing words.",
            "Convert strings to lower case first when letter case does not matter.",
            "Treat capital and small letters alike where the problem says so.",
        ),
        "whitespace": (
            "Strip surrounding whitespace from text before using it.",
            "Trim leading and trailing spaces and collapse runs of blanks when reading text.",
            "Remove stray spaces around words before comparing them.",
            "Normalise whitespace in strings first.",
        ),
        "rounding": (
            "Round the final number to the stated number of decimals.",
            "Apply the requested rounding at the very end of the computation.",
            "When the problem names decimal places, round the result to them.",
        ),
        "ties": (
            "Break ties exactly as the problem describes.",
            "Add a tie-break so that equal scores come out as the problem states.",
            "When candidates rank equally, decide between them by the tie rule of the problem.",
        ),
        "duplicates": (
            "Decide how repeated values count and remove duplicates when they should count once.",
            "Check whether the problem wants distinct items, and deduplicate if so.",
            "Account for values that occur more than once.",
        ),
        "boundary": (
            "Check for each interval whether both ends are inclusive.",
            "Verify comparisons and loops at their boundaries to avoid off-by-one mistakes.",
            "Include the endpoints of a range whenever the problem includes them.",
        ),
        "mutation": (
            "Never modify the arguments; work on a copy.",
            "Leave the caller's input unchanged by copying it before changes.",
            "Do not mutate the input.",
        ),
        "order": (
            "Put the output into the required order.",
            "Sort the result when the problem prescribes a sequence, ascending or descending as stated.",
            "Accept arguments in either order and produce the result in the stated order.",
        ),
        "types": (
            "Produce exactly the documented types and keep booleans apart from integers.",
            "Tell bools from ints, and use integer division where whole numbers are expected.",
            "Check the type of each value, booleans above all, and return the right type.",
        ),
        "print": (
            "Return the result instead of printing it.",
            "The function must return its answer; never print.",
            "Use a return statement, not print.",
        ),
        "name": (
            "Define the function with exactly the given name and parameters.",
            "Keep the required function name and signature.",
            "Never rename the entry point.",
        ),
        "imports": (
            "Import every module that the code uses.",
            "Put all necessary imports at the top.",
            "Include each import the program needs.",
        ),
        "format": (
            "Answer with one fenced block of code and nothing else.",
            "Write only the code, with no example calls, no input() and no prose.",
            "Leave out explanations and example usage.",
        ),
    }
)

CAUSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "empty": (
            "The code uses the input before it checks whether it holds anything.",
            "Nothing covers an empty argument, so the documented default is not returned.",
        ),
        "negative": (
            "Numbers below zero take the same path as all others.",
            "The sign of an argument is not considered.",
        ),
        "zero": (
            "A value of zero reaches a division or a path that is not meant for it.",
            "A zero argument is not treated on its own.",
        ),
        "case": (
            "Text is compared without bringing upper-case and lower-case letters together.",
            "Letter case is not normalised.",
        ),
        "whitespace": (
            "Surrounding or repeated white space stays in the text.",
            "The text is used without stripping spaces.",
        ),
        "rounding": (
            "The result is not rounded as the problem asks.",
            "The requested number of decimals is ignored.",
        ),
        "ties": (
            "Among equal candidates the wrong one wins, because the tie-break is missing.",
            "Items with equal scores keep the sequence in which they came.",
        ),
        "duplicates": (
            "Repeated values are counted each time.",
            "Duplicates are not removed.",
        ),
        "boundary": (
            "The comparison or the range leaves out a value that belongs to it.",
            "The loop is off by one at a boundary.",
        ),
        "mutation": (
            "The code changes its argument in place.",
            "No copy is made before the data is changed, so the caller's input is modified.",
        ),
        "order": (
            "The result is not in the required order.",
            "The code relies on the order in which the values arrive.",
        ),
        "types": (
            "Booleans and numbers are not told apart, or the result has the wrong type.",
            "The type of a value is not checked or converted.",
        ),
        "print": (
            "The function prints its result and returns None.",
            "There is a print where a return statement belongs.",
        ),
        "name": (
            "The function that the tests call is not defined under this name.",
            "The code defines another function name than the requested one.",
        ),
        "imports": (
            "A module is used that is never imported.",
            "An import is missing.",
        ),
        "format": (
            "The reply holds more than the program, so it can't be run as it stands.",
            "Code outside the function reads input or is not Python.",
        ),
        "logic": (
            "The computation itself does not follow the problem.",
            "A step of the algorithm combines the values in the wrong way.",
        ),
    }
)

CLASSES: Mapping[str, FailureClass] = MappingProxyType(
    {
        "empty": "edge_case",
        "negative": "edge_case",
        "zero": "edge_case",
        "case": "misread_problem",
        "whitespace": "edge_case",
        "rounding": "misread_problem",
        "ties": "misread_problem",
        "duplicates": "edge_case",
        "boundary": "edge_case",
        "mutation": "misread_problem",
        "order": "misread_problem",
        "types": "wrong_type",
        "print": "wrong_type",
        "name": "wrong_name",
        "imports": "exception",
        "format": "no_code",
        "logic": "wrong_algorithm",
    }
)

NO_RULE = (
    "Work the algorithm through by hand on a small instance before writing it down.",
    "Restate what the problem asks for and compare every step of the computation with it.",
)

CHATTER = (
    "You are an expert Python programmer.",
    "Think step by step and be careful.",
    "Write clean, high-quality and robust code.",
    "Take a deep breath and consider all cases.",
)

PREFIXES = ("Code:", "Python solution:", "Here is the function:", "Program:")
