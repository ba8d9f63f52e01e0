"""Gymnasium wrappers that the project's own settings enable."""

LIFE_LOST = "ppo_and_friends.life_lost"
"""In the info of a step: whether a life was lost, which terminates a training episode without a reset.

Environments have a ``life_lost`` of their own, which means what they want it to.
"""
