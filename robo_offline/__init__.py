"""robo_offline: from logged demonstrations to a finetuned policy.

     datasets ──► replay ──► algos ──► policies ──► envs  |  real_robot
       who made     what a     what is     what acts     where it acts
       the data     batch is   learned
                      ▲          ▲                          │
                      │        engine (how fast)            │
                      └──────────── phases (when) ◄─────────┘
"""

__version__ = "0.1.0"
