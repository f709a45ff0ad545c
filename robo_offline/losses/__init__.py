"""Losses: pure functions of tensors, one equation each, named as the field names it."""
