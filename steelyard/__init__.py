"""Steelyard, the reward layer of RL post-training: build a reward, audit it, train a policy with it, carry it on."""

__version__ = "0.1.0"
