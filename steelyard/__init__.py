"""Steelyard, the reward layer of reinforcement-learning post-training: build a reward, audit it, train with it, carry it."""

__version__ = "0.1.0"
