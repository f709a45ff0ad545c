"""Phases: what happens when. Each is a value with a call, and YAML puts them in order."""
