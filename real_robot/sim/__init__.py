"""A simulated arm in a process of its own, and behind it whatever scene MuJoCo can hold.

```
robotd ── drivers/sim ──ticks, requests──► server ► arm: line ► servo ► scene (MuJoCo)
   ▲                 ◄──────states────────   │
robotwatch ── emergency_stop ──────────────► own socket
```
`wire` needs no simulator, so that robotd's side needs none either.
"""
