"""Write down what a run does: always to files, to the terminal, and to services on request."""

from robo_offline.loggers.logger import Logger
from robo_offline.loggers.many import Many, create

__all__ = ["Logger", "Many", "create"]
