"""Policies: heads that give actions, and what wraps them to act in a world."""
