"""robo_offline: from logged demonstrations to a finetuned policy.

datasets ──► replay ──► algos ──► policies ──► envs  |  real_robot
  who made     what a     what is     what acts     where it acts
  the data     batch is   learned
                 ▲          ▲                          │
                 │        engine (how fast)            │
                 └──────────── phases (when) ◄─────────┘
"""

import os

# TorchRL greets every storage with a line; what matters to a user comes as a warning or an error.
os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")

__version__ = "0.1.0"
