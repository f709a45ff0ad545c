"""Exactly once, in order, whoever dies when: spool, courier, service and learner, without Ray."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot import spool
from robo_offline.actors import folders
from robo_offline.actors.courier import Courier
from robo_offline.actors.folders import Follower, forget, last_record
from robo_offline.actors.service import Service
from robo_offline.errors import UserError

EVENTS = ("act", "carry", "learn", "save", "actor", "courier", "service", "learner", "nobody hears")


class Cell:
    """Everything between an actor's disk and a learner's, with segments of a few records."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.written: list[bytes] = []
        self.learned: list[bytes] = []  # of which the first `saved` are in a checkpoint
        self.saved = 0
        self.actor()
        self.service()
        self.courier()
        self.learner()

    # -- what happens --

    def act(self) -> None:
        payloads = [self.random.randbytes(self.random.randint(0, 90)) for _ in range(3)]
        self.spool.extend(payloads[: self.random.randint(1, 3)])
        self.written += payloads[: self.spool.next - len(self.written)]

    def carry(self) -> None:
        self.carrying.turn()

    def learn(self) -> None:
        self.learned += [payload for _, payload in self.following]

    def save(self) -> None:
        self.saved = len(self.learned)
        forget(self.folder / "service" / "inbox", self.saved - 1)

    # -- who dies, and comes back --

    def actor(self) -> None:
        self._tear(self.folder / "actor" / "spool")
        self.spool = spool.Spool(self.folder / "actor" / "spool", 200)

    def courier(self) -> None:
        self.carrying = Courier(self.folder / "actor", self.serving)

    def service(self) -> None:
        self._tear(self.folder / "service" / "inbox")
        (self.folder / "service").mkdir(exist_ok=True)
        (self.folder / "service" / "learner").touch()
        self.serving = Service(str(self.folder / "service"))
        self.serving.inbox.segment_bytes = 200
        if hasattr(self, "carrying"):
            self.courier()

    def learner(self) -> None:
        del self.learned[self.saved :]
        self.following = Follower(self.folder / "service" / "inbox", self.saved - 1)

    def nobody_hears(self) -> None:
        """The service has what was sent, but the courier dies before it is told so."""
        first = self.carrying.follower.after + 1
        payloads = [payload for _, payload in self.carrying.follower]
        if payloads:
            self.serving.receive(first, payloads)
        self.courier()

    def _tear(self, folder: Path) -> None:
        newest = max(folder.glob("*.spool"), default=None)
        if newest is not None:
            with newest.open("ab") as file:
                file.write(self.random.randbytes(self.random.randint(0, 30)))


@given(st.lists(st.sampled_from(EVENTS), max_size=60), st.integers(0, 9))
def test_whoever_dies_every_transition_is_learned_from_once(tmp_path_factory, events, seed):
    with pytest.MonkeyPatch.context() as patch:  # no power fails here, and a disk is slow
        patch.setattr(os, "fsync", lambda descriptor: None)
        cell = Cell(tmp_path_factory.mktemp("cell"), seed)
        for event in events:
            getattr(cell, event.replace(" ", "_"))()
        cell.carry()
        cell.learn()
        assert cell.learned == cell.written


def test_what_a_checkpoint_does_not_hold_stays_on_the_disk_of_the_learner(tmp_path):
    cell = Cell(tmp_path, 0)
    for _ in range(30):
        cell.act()
    cell.carry()
    cell.learn()
    cell.learner()
    cell.learn()
    assert cell.learned == cell.written
    cell.save()
    assert len(list((tmp_path / "service" / "inbox").glob("*.spool"))) == 1


def test_the_actor_s_disk_is_free_again_once_the_service_has_it(tmp_path):
    cell = Cell(tmp_path, 0)
    for _ in range(30):
        cell.act()
    assert len(list((tmp_path / "actor" / "spool").glob("*.spool"))) > 5
    cell.carry()
    assert len(list((tmp_path / "actor" / "spool").glob("*.spool"))) == 1


def test_a_gap_is_refused_and_what_comes_twice_is_ignored(tmp_path):
    service = Service(str(tmp_path))
    assert service.receive(0, [b"a", b"b"]) == 1
    assert service.receive(0, [b"a", b"b", b"c"]) == 2
    assert service.receive(1, [b"b"]) == 2
    with pytest.raises(UserError, match="missing"):
        service.receive(4, [b"e"])
    assert [payload for _, payload in Follower(tmp_path / "inbox", -1)] == [b"a", b"b", b"c"]


def test_an_actor_that_lost_its_disk_is_told_so_and_nothing_is_passed_over(tmp_path):
    cell = Cell(tmp_path, 0)
    cell.act()
    cell.carry()
    with pytest.raises(UserError, match="never had"):
        Courier(tmp_path / "another", cell.serving)


def test_what_is_sent_was_on_the_disk_before(tmp_path, monkeypatch):
    cell, order = Cell(tmp_path, 0), []
    cell.act()
    monkeypatch.setattr(folders.os, "fsync", lambda descriptor: order.append("disk"))
    receive = cell.serving.receive
    monkeypatch.setattr(cell.serving, "receive", lambda *a: order.append("sent") or receive(*a))
    cell.carry()
    assert order[0] == "disk" and "sent" in order


def test_a_follower_sees_what_comes_later_and_never_half_of_it(tmp_path):
    writer = spool.Spool(tmp_path, 200)
    follower = Follower(tmp_path, -1)
    assert list(follower) == []
    writer.append(b"one")
    assert list(follower) == [(0, b"one")]
    with (tmp_path / "000000000000.spool").open("ab") as file:
        file.write(spool.HEAD.pack(spool.MARK, 1, 40, 0) + b"half")
    assert list(follower) == [] and last_record(tmp_path) == (0, b"one")
