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

_API = ("encoder", "environment", "learn", "offline", "online")


def __getattr__(name: str):  # the command line must not wait for torch to say that a word is wrong
    if name in _API:
        from robo_offline import api

        return getattr(api, name)
    if name == "load":
        from robo_offline.datasets import load

        return load
    if name == "load_policy":
        from robo_offline.saved import load_policy

        return load_policy
    raise AttributeError(f"module 'robo_offline' has no attribute '{name}'")
