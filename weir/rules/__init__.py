"""The rule language: rule files in, an answer to each policy request out.

    rule files ─▶ reader ─▶ Ruleset of typed rules ─▶ conditions (what must hold) and actions (what is then done)
                                                            └─▶ Program: request + clock + limits ─▶ Outcome

Invariants
- Pure apart from what is passed in: the clock, the limits' counters, and answers from the network, which an evaluation
  asks for by yielding what it needs (`weir.rules.needs`).
- What a client sends is text for ever: it is never read as a rule, a pattern or an action.
"""
