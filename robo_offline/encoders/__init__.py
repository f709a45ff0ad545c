"""Encoders: observation in, feature (B, D) out. Each knows its own `dim` and its normaliser."""
