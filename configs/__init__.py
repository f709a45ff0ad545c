"""Values, and nothing else: every knob of every part stands in one of these YAML files."""
