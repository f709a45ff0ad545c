"""What was decided about a command, and why: reasons are bits, so that a record can hold many."""

from __future__ import annotations

from enum import IntFlag


class Reason(IntFlag):
    """Why a command was refused, changed or answered with a stop."""

    NONE = 0
    # refused
    MALFORMED = 1 << 0  # no message, or other keys and shapes than it should have
    NOT_FINITE = 1 << 1
    ROLE = 1 << 2  # this key may not do that
    LEASE = 1 << 3  # somebody else has the arm, or nobody any longer
    SEQUENCE = 1 << 4  # not newer than the last one: replayed or overtaken
    DESCRIPTOR = 1 << 5  # meant for another robot, or for other limits
    STATE = 1 << 6  # not armed
    STALE = 1 << 7  # computed from an observation that is too old, or unknown
    LATE = 1 << 8  # the time of all its targets is over
    KEEPOUT = 1 << 9
    UNREACHABLE = 1 << 10  # no joint angles put the tool there
    RANGE = 1 << 11  # a scale or a time that makes no sense
    # accepted, changed
    STEP = 1 << 12  # too far from where the arm is
    JOINT = 1 << 13  # beyond a joint's margin
    BOX = 1 << 14  # outside of the box
    GRIPPER = 1 << 15
    # said of a motion
    BRAKED = 1 << 16  # going on would have left a limit without room to stop
    EXHAUSTED = 1 << 17  # no target left: holding
    MISSED = 1 << 18  # the loop came late


REFUSING = Reason((1 << 12) - 1)
