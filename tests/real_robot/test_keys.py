import json
import os

import pytest

from real_robot import keys
from real_robot.requests import Role
from robo_offline.errors import UserError


@pytest.fixture
def folder(tmp_path):
    keys.new(tmp_path / "keys", Role.POLICY)
    return tmp_path / "keys"


def test_keys_are_for_their_owner_alone(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


@pytest.mark.parametrize("name", ["robotd.key", "allowed.json", "policy.key", "."])
def test_what_others_can_read_is_refused(folder, name):
    (folder / name).chmod(0o755 if name == "." else 0o640)
    with pytest.raises(UserError, match="others can read"):
        keys.robotd_pair(folder)
        keys.Allowed(folder)
        keys.client_key(folder / "policy.key")


def test_a_client_knows_its_role_and_its_robot(folder):
    key = keys.client_key(folder / "policy.key")
    assert key.role is Role.POLICY
    assert key.robotd == keys.robotd_pair(folder).public
    assert list(keys.Allowed(folder).peers) == [key.pair.public]


def test_a_second_key_of_a_role_needs_a_name_and_keeps_the_first(folder):
    with pytest.raises(UserError, match="already"):
        keys.new(folder, Role.POLICY)
    keys.new(folder, Role.POLICY, "policy-2")
    assert sorted(keys.Allowed(folder).names.values()) == ["policy", "policy-2"]


@pytest.mark.parametrize("name", ["../policy", "-", "robotd", "a b"])
def test_a_name_is_no_path(folder, name):
    with pytest.raises(UserError, match="name"):
        keys.new(folder, Role.POLICY, name)


def test_a_secret_is_in_no_representation(folder):
    key = keys.client_key(folder / "policy.key")
    assert key.pair.secret not in repr(key)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: {**data, "secret": data["public"]},
        lambda data: {**data, "role": "king"},
        lambda data: {**data, "robotd": "short"},
        lambda data: {k: v for k, v in data.items() if k != "secret"},
        lambda data: [],
    ],
)
def test_a_damaged_key_is_one_clear_error(folder, damage):
    path = folder / "policy.key"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError):
        keys.client_key(path)


def test_a_list_that_cannot_be_read_allows_nobody(folder):
    allowed = keys.Allowed(folder)
    (folder / "allowed.json").write_text("{")
    allowed.refresh()
    assert allowed.peers == {} and "cannot be read" in allowed.error
    os.unlink(folder / "allowed.json")
    allowed.refresh()
    assert allowed.peers == {}


def test_revoking_a_name_that_is_not_there_says_which_are(folder):
    with pytest.raises(UserError, match="policy"):
        keys.revoke(folder, "polic")
    keys.revoke(folder, "policy")
    assert keys.Allowed(folder).peers == {}
