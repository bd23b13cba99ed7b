"""The numbers by which the factorial search decides.

Most were chosen in simulated worlds; docs/measurements/optimizers.md has what some of them are worth. The docstring of
`decision` says where those of the decision come from, that of `effects` what its priors mean.

With another number the search decides otherwise: raise `REVISIONS` in `evolve/strategies.py` then.
"""

# A batch, and what it drops

UNSOLVED_SHARE = 0.6
"""Share of a batch that goes to tasks which the start prompt did not solve: there rules can help."""
FIRST = 2.4
"""Times the batch size that the first batch may be: all it does is to learn where the start prompt fails."""
EVERY = 3
"""Every so many batches, tasks come in that were not tried yet."""
WEED, WEED_LAST, WEED_START = 1.5, 0.5, 1.0
"""Deviations by which an effect must be below 0 for a rule to be left out: of an added rule while new ones come in,
when they no longer do, and of a sentence of the start prompt. What is left out early never shows its worth."""
FOR_OPTIMIZER = 2
"""Calls of the advisors that a batch leaves to the optimizer, of those that it may make."""
REWRITE = 4
"""Every so many batches the optimizer is asked although no failure was explained anew."""
MUTE = 2
"""Times that a task is asked for with the start prompt without a measured answer, before it is left alone."""
HARM = 0.8
"""Deviations by which the effect of a rule must be below 0 for the sentence that says it among others to be undone."""
ROOM = 1.25
"""Words that a prompt may have, as a share of the start's, where that is long."""
TYPICAL = 60
"""Words of a start prompt from which one more costs less: a tenth more costs the same, whatever the length."""

# Which rules the next prompt holds

BOLDNESS = 0.5
"""Deviations by which a draw of the effects may differ from their means; 1 is plain Thompson sampling."""
FLIP = 0.04
"""Probability that a rule is in or out against the draw, so that no effect is ever beyond doubt."""
APART = 0.3
"""Probability that a sentence which says several rules at once is tried as some of these rules instead."""
APART_WORDS = 1.5
"""Length of such a prompt, as a share of what a prompt may have."""

# Demos

AT_ONCE = 2
"""Demos that are tried at a time, for each that a prompt may have."""
EVER = 4
"""Demos that are tried in all, for each that a prompt may have."""

# What can be a rule

MAX_WORDS = 80
"""A longer sentence is no rule. Many models say in 40 to 70 words what others say in ten; what that costs shows."""
LONGER = 1.5
"""Times the longest sentence of the start prompt that a rule may have in words, where that is more."""
MOST_RULES = 1000
"""Rules that a start prompt may have: an estimate of 1,000 effects takes a second, and one of 2,000 eight."""
COPIED = 7
"""So many words in a row that stand in a task's text as well are taken from it."""
WHOLE = 4
"""A task's text of at least so many words is taken from it when it stands there as a whole."""
EACH = 2
"""Rollouts for each sentence of the start prompt below which its effect can't be told from the others'."""
DEMO_WORD = 0.25
"""Words of an instruction that one of a demo counts for: it is read, and asks for nothing."""

# New rules

REMEMBERED = 0.6
"""Deviations by which the effect of a rule that the optimizer forgot must be above 0 for it to stay."""
STATED = 6
"""Rules that come in straight from the diagnoses of one batch."""
ALIKE = 0.5
"""Share of a rule's words that a new sentence must have to be taken for it, where nobody asked to shorten."""
SHARED = 0.2
"""Share of a rule's words that a shorter sentence must have to say it: what no sentence has so much of was left out."""
MAX_SHOWN = 400
"""Characters that are kept of a rejected sentence."""
MAX_TOLD = 12
"""Rules whose effects the optimizer is told."""

# What is spent on what

LEARNING = 0.85
"""Share of the search after which no new rule comes in: those that are there are still measured."""
CONFIRMING = 0.4
"""Largest share of the budget that is kept for the confirmation."""
ADVICE_FIRST, ROLLOUTS_PER_ADVICE = 50, 80
"""Calls of the advisors that are made however few rollouts there are, and rollouts for each one more."""

# Effects (their priors are `effects.UNSOLVED` and `SOLVED`)

PROOF = 3
"""Rollouts with a new rule, or without a sentence of the start, from which its effect counts as measured."""
SAID = 0.8
"""Share of each rule's effect that a sentence which says several rules at once inherits."""
OWN = 0.7
"""Deviation of the rest of such a sentence's effect, in those of a single rule."""

# The decision

CONFIRMED = 0.95
"""Probability of being better that `confirmed` takes, beside what the sign test says."""
PROBABLE = 0.8
"""Probability of being better from which a prompt is the better bet."""
WINNING = 1.0
"""Both parameters of the beta prior of the share of wins among the tasks that differ."""
DIFFERING = (1.0, 4.0)
"""Parameters of the beta prior of the share of tasks that differ."""
GENERAL = 0.3
"""Deviation of the gain on new tasks from that on training tasks, in shares of the tasks that differ."""
ALPHA = 0.05
"""Usual error of the sign test."""
LOOKS = 8
"""Looks of the sign test at the data, evenly spaced."""
SPENDING = 1.5
"""Power of the share of planned pairs by which the sign test spends its error: above 1 later looks get more of it."""
ERROR = 0.045
"""Of the sign test: a little below 5 %, for the start's solutions of training tasks told what to propose."""
TRAIN_PER_DEV = 2
"""Tasks of the train set for one of the dev set: there the start's solutions are known, so that they cost half."""
