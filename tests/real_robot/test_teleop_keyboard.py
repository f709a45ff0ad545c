"""A terminal's bytes: keys without a release, escape sequences in pieces, and a key that stops."""

from __future__ import annotations

import itertools
import os
import pty

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import VirtualClock, ns
from real_robot.teleop.keyboard import REPEAT_S, Keyboard, Terminal, decode
from real_robot.teleop.mapping import STRAIGHT


class Typed:
    """A terminal that gives what the test types."""

    def __init__(self):
        self.data, self.gone = b"", False

    def read(self):
        if self.gone:
            raise OSError("closed")
        data, self.data = self.data, b""
        return data

    def close(self):
        self.gone = True


@pytest.fixture
def keys():
    """Return a function that types, lets time pass, and polls."""
    device, clock = Typed(), VirtualClock(ns(1))
    teleop = Keyboard(device, clock)

    def press(data=b"", after_ns=0):
        clock.advance(after_ns)
        device.data = data
        return teleop.poll()

    press.device = device
    return press


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"uJq", ["u", "j", "q"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA", ["up"]),  # as terminals in application mode send it
        (b"\x1b[1;5A", ["up"]),  # with Ctrl
        (b"\x1b[3~u", ["u"]),  # Delete is not known
        (b"\x1b[200~u", ["u"]),
        (b"\x1b[@u", ["u"]),
        (b"\x1b[?25hu", ["u"]),
        (b"\x1b[ qu", ["u"]),
        (b"!~", ["!", "~"]),
        (b"\x1bu", ["escape", "u"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        (b"\x00\xff\r\n\x7fu", ["u"]),
        (b"\x1b[\x01u", ["u"]),  # broken off
    ],
)
def test_bytes_are_keys(data, expected):
    assert decode(b"", data) == (expected, b"")


def test_a_sequence_in_pieces_is_put_together():
    assert decode(b"", b"u\x1b") == (["u"], b"\x1b")
    assert decode(b"\x1b", b"[") == ([], b"\x1b[")
    assert decode(b"\x1b[", b"Au") == (["up", "u"], b"")


def test_a_sequence_that_does_not_end_is_given_up():
    assert decode(b"", b"\x1b[" + b"1" * 13) == ([], b"\x1b[" + b"1" * 13)
    assert decode(b"", b"\x1b[" + b"1" * 14 + b"u") == (["u"], b"")
    assert decode(b"", b"\x1b[" + b"1" * 14) == ([], b"")


def test_an_escape_that_nothing_follows_is_the_key():
    assert decode(b"\x1b", b"") == (["escape"], b"")


# Any bytes, and those that escape sequences are made of.
STREAM = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from(list(b"\x1b[O;15Au ~\x01\xff")), max_size=80).map(bytes),
)


@given(STREAM, st.lists(st.integers(0, 80), max_size=5))
def test_any_bytes_decode_and_leave_little_behind(data, cuts):
    whole, _ = decode(b"", data)
    assert all(key in ("up", "down", "left", "right", "escape") or len(key) == 1 for key in whole)
    pieces, rest, edges = [], b"", sorted({0, len(data), *(c for c in cuts if c < len(data))})
    for start, end in itertools.pairwise(edges):
        keys, rest = decode(rest, data[start:end])
        pieces += keys
        assert len(rest) < 16
    assert pieces == whole  # however it is cut


@given(st.lists(STREAM, max_size=12), st.integers(0, 300_000_000))
def test_any_bytes_give_finite_bounded_motion(chunks, step):
    device, clock = Typed(), VirtualClock()
    teleop = Keyboard(device, clock)
    for chunk in chunks:
        device.data = chunk
        sample = teleop.poll()
        assert np.linalg.norm(sample.velocity[:3]) <= STRAIGHT.linear_m_s * (1 + 1e-12)
        assert np.linalg.norm(sample.velocity[3:]) <= STRAIGHT.angular_rad_s * (1 + 1e-12)
        clock.advance(step)


@given(STREAM, STREAM, st.sampled_from([b" ", b"\x03"]))
def test_the_stop_key_works_wherever_it_is(before, after, key):
    device = Typed()
    teleop = Keyboard(device, VirtualClock())
    device.data = before + key + after
    sample = teleop.poll()
    assert "stop key" in sample.stop
    assert not sample.enable and not sample.velocity.any()


def test_escape_stops_a_poll_later_as_it_may_have_been_an_arrow(keys):
    assert not keys(b"\x1b").stop
    assert keys().stop
    assert not keys().stop


@pytest.mark.parametrize(
    ("key", "axis", "sign"),
    [(b"\x1b[A", 0, 1), (b"\x1b[D", 1, 1), (b"\x1b[C", 1, -1), (b"u", 2, 1), (b"q", 5, 1)],
)  # fmt: skip
def test_a_key_moves_the_tool_until_it_stops_repeating(keys, key, axis, sign):
    full = STRAIGHT.linear_m_s if axis < 3 else STRAIGHT.angular_rad_s
    sample = keys(key)
    assert sample.enable and sample.velocity[axis] == pytest.approx(sign * full)
    assert keys(after_ns=ns(REPEAT_S)).velocity[axis] == pytest.approx(sign * full)
    sample = keys(after_ns=1)
    assert not sample.enable and not sample.velocity.any()


def test_a_repeating_key_goes_on(keys):
    assert all(keys(b"u", after_ns=ns(0.033)).velocity[2] > 0 for _ in range(100))


def test_opposite_keys_cancel_and_two_directions_add(keys):
    assert not keys(b"uj").velocity.any()
    velocity = keys(b"\x1b[A\x1b[D", after_ns=ns(1)).velocity
    assert velocity[0] == velocity[1] == pytest.approx(STRAIGHT.linear_m_s / 2**0.5)


def test_the_stop_key_ends_what_was_moving(keys):
    assert keys(b"u").velocity.any()
    assert keys(b" ", after_ns=1).stop
    assert not keys(after_ns=1).velocity.any()


def test_keys_label_and_move_the_gripper(keys):
    assert keys(b"c").gripper == -1
    assert keys(b"o", after_ns=ns(1)).gripper == 1
    assert [keys(key, after_ns=1).success for key in (b"y", b"y", b"")] == [True, False, False]
    assert keys(b"n").failure
    assert keys(b"R").rerecord


def test_a_keyboard_that_was_closed_reads_no_more():
    device = Typed()
    teleop = Keyboard(device, VirtualClock())
    teleop.close()
    assert device.gone
    device.gone = False
    assert teleop.poll().lost


def test_a_closed_terminal_is_lost(keys):
    keys.device.gone = True
    sample = keys(b"u")
    assert sample.lost and not sample.enable


def test_a_terminal_is_read_without_waiting_and_given_back_as_it_was(monkeypatch):
    import termios

    master, slave = pty.openpty()
    monkeypatch.setattr("sys.stdin", os.fdopen(slave, closefd=False))
    before = termios.tcgetattr(slave)
    terminal = Terminal()
    assert terminal.read() == b""
    os.write(master, b"u\x1b[A")
    assert terminal.read() == b"u\x1b[A"  # no line was ended
    os.close(master)
    with pytest.raises(OSError):  # whatever the system says of a hangup
        terminal.read()
    terminal.close()
    os.close(slave)
    assert before[3] & termios.ICANON


def test_an_input_that_is_no_terminal_is_refused(monkeypatch, tmp_path):
    with (tmp_path / "piped").open("w+") as piped:
        monkeypatch.setattr("sys.stdin", piped)
        with pytest.raises(OSError, match="this input is none"):
            Terminal()
