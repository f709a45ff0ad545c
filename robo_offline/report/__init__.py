"""Turn run directories into one page that a person can read, keep and send."""

from robo_offline.report.write import write

__all__ = ["write"]
