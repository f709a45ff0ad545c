"""Replay: what a batch is."""
