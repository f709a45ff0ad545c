"""Pictures that are new, visible and of known age, or a refusal: never a wait.

```
 camerad (one process per camera)                       control path
  source.grab() ──► watch ──► ring in shared memory ──► RingCamera.latest(max_age_ns) -> Frame
  may block         new?       several readers          answers at once, or raises StaleFrame
                    black?
```

Only pictures that are new and not black are published. One rule then covers a dead process, a
frozen stream and a covered lens: the newest picture is too old.
"""
