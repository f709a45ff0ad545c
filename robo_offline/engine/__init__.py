"""The one place that knows about speed."""
