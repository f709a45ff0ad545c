"""Robots: where a policy acts when the simulator is left behind."""
