"""From a policy to a moving arm, with limits that no policy can talk its way around.

```
 policy, people ──► wire ──► robotd: lease ► stages ► motion ► output check ──► driver ──► arm
                                │  flight recorder, stops that latch               ▲
                                └── heartbeat ──► robotwatch ── vendor's own stop ─┘
```

Nothing here imports torch, and nothing is unpickled: what decides about a motor has few
dependencies and trusts no byte from outside. This reduces risk; it is no safety-rated function, and
it neither replaces nor weakens the robot's own.
"""
