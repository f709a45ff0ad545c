"""A person's hands on the robot: devices read as pure functions, and a dead-man that zeroes.

```
 bytes or events ──► decode / apply ──► Controls ──► Sampler ──► TeleopSample ──► Intervention
  of a device         pure               axes in      dead-man,    m/s, rad/s      who acts now:
                                         [-1, 1],     stuck,       or zeros        policy, person
                                         buttons      lost                         or nobody
```
"""
