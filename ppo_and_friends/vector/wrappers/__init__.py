"""Gymnasium wrappers that the project's own settings enable."""

LIFE_LOST = "ppo_and_friends.life_lost"
"""In the info of a step: whether a life was lost, which terminates a training episode without a reset.

An environment's own ``life_lost``, if it has one, has a meaning of its own and is ignored.
"""
