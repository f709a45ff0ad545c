import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.descriptor import ROBOTS, Box, dump, load, parse, with_limits
from robo_offline.errors import UserError

SHIPPED = sorted(path.stem for path in ROBOTS.glob("*.json"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_robot_reads_and_comes_back_from_its_canonical_file(name):
    robot = load(name)
    again = parse(dump(robot))
    assert again == robot and again.hash == robot.hash


def test_any_change_of_a_limit_changes_the_hash():
    robot = load("sim")
    slower = with_limits(robot, tcp_v_max_m_s=0.2)
    assert slower.hash != robot.hash


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tcp_v_max_m_s", 0.3),
        ("q_margin_rad", 0.01),
        ("q_min_rad", (-2.95,) * 7),
        ("v_max_rad_s", (2.0,) * 7),
        ("step_max_rad", (0.5,) * 7),
        ("box_m", Box((0.1, -0.5, 0.01), (0.8, 0.5, 0.8))),
        ("force_max_n", 50.0),
    ],
)
def test_a_looser_limit_is_refused_and_named(name, value):
    robot = load("sim")
    with pytest.raises(UserError, match=name):
        with_limits(robot, **{name: value})


def test_a_keep_out_can_be_added_and_grown_but_not_taken_away():
    robot = with_limits(load("sim"), keepouts_m=(Box((0.4, 0, 0), (0.5, 0.1, 0.1)),))
    with_limits(robot, keepouts_m=(Box((0.3, -0.1, 0), (0.5, 0.1, 0.2)),))
    with pytest.raises(UserError, match="keepouts_m"):
        with_limits(robot, keepouts_m=())


def changed(**paths):
    data = json.loads(dump(load("sim")))
    for path, value in paths.items():
        *into, last = path.split("__")
        place = data
        for key in into:
            place = place[key]
        place[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("mutation", "said"),
    [
        ({"limits__q_max_rad": [166.0, 101.0, 166.0, -4.0, 166.0, 215.0, 166.0]}, "radians"),
        ({"limits__v_max_rad_s": [150.0] * 7}, "radians"),
        ({"limits__q_max_rad": [2.9] * 6}, "7 values"),
        ({"limits__box_m": {"low_m": [200, -500, 10], "high_m": [800, 500, 800]}}, "millimetres"),
        ({"limits__tcp_v_max_m_s": 250.0}, "metres per second"),
        ({"limits__tcp_v_max_m_s": -1.0}, "positive"),
        ({"limits__j_max_rad_s3": [0.0] * 7}, "positive"),
        ({"limits__speed": 1.0}, "speed"),
        ({"timing__servo_hz": 5.0}, "servo_hz"),
        ({"timing__command_timeout_s": 1e6}, "command_timeout_s"),
        ({"home_rad": [9.0] * 7}, "home_rad"),
        ({"tool_wxyz": [1.0, 1.0, 0.0, 0.0]}, "length 1"),
        ({"joints": []}, "joints"),
        ({"driver": "../sim"}, "driver"),
        ({"has_gripper": "yes"}, "bool"),
        ({"limits__force_max_n": True}, "number"),
    ],
)
def test_what_no_robot_can_be_is_refused_with_what_is_wrong(mutation, said):
    with pytest.raises(UserError, match=said):
        parse(changed(**mutation))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"name": NaN}', "{" * 4000, changed()[:-40], '{"a": 1, "a": 2}'],
)
def test_a_file_that_is_no_robot_gets_one_clear_error(text):
    with pytest.raises(UserError):
        parse(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_file_is_a_robot_or_a_clear_error(data):
    text = list(changed())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from('0123456789-eE.,"[]{}:naNI'))
    try:
        robot = parse("".join(text))
    except UserError:
        return
    assert parse(dump(robot)) == robot


def test_an_unknown_robot_names_the_nearest():
    with pytest.raises(UserError, match="franka"):
        load("frankaa")


def test_the_longest_stop_covers_the_fastest_joint():
    robot = load("sim")
    slow = replace(robot, limits=replace(robot.limits, a_max_rad_s2=(1.0,) * 7))
    assert slow.stop_bound_s > robot.stop_bound_s > 0.2
