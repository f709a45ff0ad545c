"""Checkpoints survive a kill at any file operation, a full disk and damage."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from replay_rows import episode
from safetensors import SafetensorError

from robo_offline import checkpoint
from robo_offline.checkpoint import Checkpoints, random_state, set_random_state
from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay, Window

CAPACITY = 30


def ring() -> Replay:
    return Replay(CAPACITY, Window(0.9, chunk=2, n_step=3))


def grown(episodes: range, replay: Replay | None = None) -> Replay:
    replay = ring() if replay is None else replay  # an empty one is falsy
    for number in episodes:
        replay.extend(episode(number, 3 + number % 5))
    return replay


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"algo.w": torch.full((3, 4), value), "update_count": torch.tensor(int(value))}


def drawn(replay: Replay) -> torch.Tensor:
    """What the replay would give to a learner."""
    torch.manual_seed(3)
    return replay.sample(64)


def same(a: Replay, b: Replay) -> bool:
    return (
        list(a.episodes) == list(b.episodes)
        and (a.total, a.cursor) == (b.total, b.cursor)
        and bool((drawn(a) == drawn(b)).all())
    )


def restored(directory: Path, name: str = "last") -> tuple[float, Replay]:
    """Value and replay of a checkpoint, as a new process sees them."""
    checkpoints = Checkpoints(directory)
    loaded, state = checkpoints.load(name)
    replay = ring()
    checkpoints.restore_replay(replay, state["replay"])
    assert state["value"] == loaded["algo.w"][0, 0].item()
    return state["value"], replay


def save(directory: Path, tag: int, value: float, replay: Replay) -> Path:
    return Checkpoints(directory).save(tag, tensors(value), {"value": value}, replay)


# -- what is saved comes back ----------------------------------------------------------------


def test_tensors_and_state_come_back_as_they_were(tmp_path):
    written = {"a": torch.randn(2, 3), "step": torch.tensor(7), "flag": torch.tensor(True)}
    Checkpoints(tmp_path).save(5, written, {"x": [1, 0.1, "y"]}, None)
    read, state = Checkpoints(tmp_path).load()
    assert read.keys() == written.keys()
    assert all(torch.equal(read[key], written[key]) for key in read)
    assert state["x"] == [1, 0.1, "y"]


def test_the_random_stream_comes_back_through_json():
    state = json.loads(json.dumps(random_state()))
    first = torch.rand(5)
    set_random_state(state)
    assert torch.equal(torch.rand(5), first)


@pytest.mark.parametrize("episodes", [1, 4, 9, 23])
def test_a_restored_ring_is_the_same_ring(tmp_path, episodes):
    replay = grown(range(episodes))
    save(tmp_path, 1, 1.0, replay)
    assert same(restored(tmp_path)[1], replay)


def test_a_ring_saved_again_and_again_is_the_same_after_each_resume(tmp_path):
    kept, resumed = ring(), ring()
    numbers = itertools.count()
    for tag in range(12):
        for number in itertools.islice(numbers, 1 + tag % 3):
            for replay in (kept, resumed):
                replay.extend(episode(number, 3 + number % 5))
        save(tmp_path, tag, float(tag), resumed)
        resumed = restored(tmp_path)[1]
        assert same(resumed, kept)


def test_resuming_without_a_new_save_twice_gives_the_same_ring(tmp_path):
    replay = grown(range(11))
    save(tmp_path, 1, 1.0, replay)
    for _ in range(3):
        assert same(restored(tmp_path)[1], replay)


def test_a_restored_ring_that_grows_on_stays_the_same_as_one_never_stopped(tmp_path):
    kept = grown(range(9))
    save(tmp_path, 1, 1.0, kept)
    resumed = restored(tmp_path)[1]
    for number in range(9, 40):
        kept.extend(episode(number, 3 + number % 5))
        resumed.extend(episode(number, 3 + number % 5))
        assert same(resumed, kept)


def test_episodes_of_a_future_that_was_never_saved_are_forgotten(tmp_path, monkeypatch):
    replay = grown(range(4))
    save(tmp_path, 1, 1.0, replay)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "point", stop)
        with pytest.raises(Killed):
            save(tmp_path, 2, 2.0, grown(range(4, 7), replay))
    resumed = restored(tmp_path)[1]
    other = [episode(100 + number, 4) for number in range(3)]
    for part in other:
        resumed.extend(part)
    save(tmp_path, 2, 3.0, resumed)
    assert same(restored(tmp_path)[1], resumed)


def test_replay_episodes_are_written_once(tmp_path):
    replay = grown(range(3))
    save(tmp_path, 1, 1.0, replay)
    segment = next((tmp_path / "replay").iterdir())
    before = segment.stat()
    save(tmp_path, 2, 2.0, grown(range(3, 5), replay))
    assert segment.stat().st_mtime_ns == before.st_mtime_ns
    assert segment.stat().st_ino == before.st_ino
    assert len(list((tmp_path / "replay").iterdir())) == 2


def test_a_save_without_new_episodes_writes_no_segment(tmp_path):
    replay = grown(range(3))
    for tag in (1, 2):
        save(tmp_path, tag, 1.0, replay)
    assert len(list((tmp_path / "replay").iterdir())) == 1


def test_segments_whose_episodes_all_left_are_deleted(tmp_path):
    replay = ring()
    for tag in range(10):
        save(tmp_path, tag, 1.0, grown(range(tag, tag + 1), replay))
    ends = [int(path.stem[10:]) for path in (tmp_path / "replay").iterdir()]
    assert min(ends) == replay.total - len(replay.episodes)


def test_pruning_keeps_what_last_and_best_lead_to(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for tag in range(6):
        folder = checkpoints.save(tag, tensors(tag), {"value": tag}, None)
        if tag == 2:
            checkpoints.point("best", folder)
    kept = sorted(path.name for path in tmp_path.glob("[0-9]*"))
    assert kept == ["000000002", "000000005"]
    assert checkpoints.load("best")[1]["value"] == 2


def test_a_checkpoint_saved_twice_at_one_place_holds_the_second(tmp_path):
    replay = grown(range(3))
    save(tmp_path, 1, 1.0, replay)
    save(tmp_path, 1, 2.0, replay)
    assert restored(tmp_path)[0] == 2.0


# -- a kill at every file operation ----------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


def stop(*_, **__):
    raise Killed


class Disk:
    """Count file operations and fail at the k-th, leaving behind what a half-done one would."""

    def __init__(self, monkeypatch, at: int, error: type[BaseException] | None):
        self.count, self.at, self.error = 0, at, error
        for module, name in [
            (os, "mkdir"),
            (os, "rename"),
            (os, "replace"),
            (os, "symlink"),
            (os, "unlink"),
            (os, "rmdir"),
            (os, "fsync"),
        ]:
            monkeypatch.setattr(module, name, self.guarded(getattr(module, name)))
        monkeypatch.setattr(shutil, "rmtree", self.half_removed)
        monkeypatch.setattr(checkpoint, "save_file", self.half_written(checkpoint.save_file))
        monkeypatch.setattr(Path, "write_text", self.half_written_text(Path.write_text))

    def strikes(self) -> bool:
        self.count += 1
        return self.count == self.at

    def fail(self):
        if self.error is OSError:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    def guarded(self, operation):
        def call(*args, **kwargs):
            if self.strikes():
                self.fail()
            return operation(*args, **kwargs)

        return call

    def half_removed(self, path, ignore_errors=False):
        """`shutil.rmtree`, file by file."""
        if ignore_errors and not Path(path).exists():
            return
        for entry in sorted(Path(path).iterdir()):
            os.unlink(entry)
        os.rmdir(path)

    def half_written(self, operation):
        def call(content, path):
            if self.strikes():
                operation(content, path)
                with open(path, "r+b") as file:
                    file.truncate(Path(path).stat().st_size // 2)
                if self.error is OSError:
                    raise SafetensorError("I/O error: No space left on device (os error 28)")
                self.fail()
            return operation(content, path)

        return call

    def half_written_text(self, operation):
        def call(path, text, *args, **kwargs):
            if self.strikes():
                operation(path, text[: len(text) // 2])
                self.fail()
            return operation(path, text, *args, **kwargs)

        return call


def before(directory: Path, same_place: bool) -> tuple[Replay, int]:
    """A folder with a history: evictions, a `best` elsewhere, and a `last`."""
    replay = grown(range(6))
    save(directory, 1, 1.0, replay)
    Checkpoints(directory).point("best", directory / "000000001")
    save(directory, 2, 2.0, grown(range(6, 9), replay))
    return replay, 2 if same_place else 3


@pytest.mark.parametrize("same_place", [False, True], ids=["new_place", "same_place"])
@pytest.mark.parametrize("error", [Killed, OSError], ids=["kill", "full_disk"])
def test_whatever_operation_fails_last_leads_to_the_old_state_or_the_new(
    tmp_path, monkeypatch, same_place, error
):
    source = tmp_path / "source"
    history, tag = before(source, same_place)
    old, new = restored(source)[1], grown(range(9, 14), history)
    for at in itertools.count(1):
        directory = tmp_path / f"{at}"
        shutil.copytree(source, directory, symlinks=True)
        with monkeypatch.context() as patch:
            disk = Disk(patch, at, error)
            try:
                save(directory, tag, 3.0, new)
            except Killed:
                pass
            except UserError as raised:
                assert "the disk is full" in raised.what
        value, replay = restored(directory)
        assert (value == 2.0 and same(replay, old)) or (value == 3.0 and same(replay, new)), at
        assert restored_value(directory, "best") == 1.0
        save(directory, 4, 4.0, new)  # and the folder can be used on
        assert same(restored(directory)[1], new)
        leftovers = [
            p.name for p in directory.rglob("*") if "partial" in p.name or ".link" in p.name
        ]
        assert leftovers == []
        if disk.count < at:
            break
    assert at > 10


def restored_value(directory: Path, name: str) -> float:
    return Checkpoints(directory).load(name)[1]["value"]


def test_a_kill_while_the_best_is_saved_never_leaves_last_ahead_of_it(tmp_path, monkeypatch):
    source = tmp_path / "source"
    new, tag = before(source, False)
    for at in itertools.count(1):
        directory = tmp_path / f"{at}"
        shutil.copytree(source, directory, symlinks=True)
        with monkeypatch.context() as patch:
            disk = Disk(patch, at, Killed)
            with contextlib.suppress(Killed):
                Checkpoints(directory).save(tag, tensors(3.0), {"value": 3.0}, new, best=True)
        last, best = restored_value(directory, "last"), restored_value(directory, "best")
        assert (last, best) in [(2.0, 1.0), (2.0, 3.0), (3.0, 3.0)]
        if disk.count < at:
            break


@pytest.mark.parametrize("error", [Killed, OSError], ids=["kill", "full_disk"])
def test_best_leads_somewhere_whatever_operation_of_pointing_fails(tmp_path, monkeypatch, error):
    for at in itertools.count(1):
        directory = tmp_path / f"{at}"
        before(directory, False)
        with monkeypatch.context() as patch:
            disk = Disk(patch, at, error)
            with contextlib.suppress(Killed, OSError, UserError):
                Checkpoints(directory).point("best", directory / "000000002")
        assert restored_value(directory, "best") in (1.0, 2.0)
        if disk.count < at:
            break


def test_a_full_disk_is_told_with_a_remedy_and_leaves_the_old_one(tmp_path, monkeypatch):
    save(tmp_path, 1, 1.0, grown(range(3)))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError, match="the disk is full") as raised:
            save(tmp_path, 2, 2.0, grown(range(3)))
    assert "free some space" in raised.value.remedy
    assert restored(tmp_path)[0] == 1.0


def full(*_, **__):
    raise SafetensorError("I/O error: No space left on device (os error 28)")


# -- damage ----------------------------------------------------------------------------------


def test_no_checkpoint_at_all_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint 'last'"):
        Checkpoints(tmp_path).load()
    assert not Checkpoints(tmp_path).exist()


@pytest.mark.parametrize("file", ["learner.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_file_is_told(tmp_path, file, share):
    folder = save(tmp_path, 1, 1.0, grown(range(3)))
    path = folder / file
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="cannot be read"):
        Checkpoints(tmp_path).load()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00garbage", b"null", b"[]", b'{"format": 99}'])
def test_a_state_that_is_something_else_is_told(tmp_path, content):
    folder = save(tmp_path, 1, 1.0, grown(range(3)))
    (folder / "state.json").write_bytes(content)
    with pytest.raises(UserError):
        Checkpoints(tmp_path).load()


def test_missing_tensors_are_told(tmp_path):
    folder = save(tmp_path, 1, 1.0, grown(range(3)))
    (folder / "learner.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Checkpoints(tmp_path).load()


def test_a_cut_replay_segment_is_told(tmp_path):
    save(tmp_path, 1, 1.0, grown(range(3)))
    path = next((tmp_path / "replay").iterdir())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="replay segment"):
        restored(tmp_path)


def test_a_missing_replay_segment_is_told(tmp_path):
    save(tmp_path, 1, 1.0, grown(range(3)))
    next((tmp_path / "replay").iterdir()).unlink()
    with pytest.raises(UserError, match="missing"):
        restored(tmp_path)


def test_a_replay_that_does_not_fit_the_ring_any_more_is_told(tmp_path):
    save(tmp_path, 1, 1.0, grown(range(6)))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="capacity"):
        checkpoints.restore_replay(Replay(8, Window(0.9)), checkpoints.load()[1]["replay"])


def test_a_memory_mapped_ring_of_another_capacity_is_restored(tmp_path):
    window = Window(0.9, chunk=2, n_step=3)
    replay = Replay(CAPACITY, window, scratch=tmp_path / "rows")
    expected = drawn(grown(range(9), replay))
    save(tmp_path, 1, 1.0, replay)
    checkpoints, resumed = Checkpoints(tmp_path), Replay(99, window, scratch=tmp_path / "rows")
    checkpoints.restore_replay(resumed, checkpoints.load()[1]["replay"])
    assert (drawn(resumed) == expected).all()


def test_a_memory_mapped_ring_is_restored_into_its_old_folder(tmp_path):
    def mapped():
        return Replay(CAPACITY, Window(0.9, chunk=2, n_step=3), scratch=tmp_path / "rows")

    replay = grown(range(9), mapped())
    expected = drawn(replay)
    save(tmp_path, 1, 1.0, replay)
    checkpoints, resumed = Checkpoints(tmp_path), mapped()
    checkpoints.restore_replay(resumed, checkpoints.load()[1]["replay"])
    assert (drawn(resumed) == expected).all()
