"""Environments: every one is a Gymnasium environment with actions in [-1, 1] and `success` in its info."""
