"""Actors: whoever acts in a process of its own, the learner in another, and Ray in neither.

    actor ──► spool ──► courier ═══ Ray ═══ service ──► inbox ──► learner
          ◄── weights ◄────────────────────────────◄── weights ◄──

Each arrow but the middle one is a folder, written so that a kill leaves it whole. Ray ends the
process that uses it when its head is gone, so only courier and service use it: both may die at any
moment and begin again from what lies on the disk.
"""
