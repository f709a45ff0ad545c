import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import ns
from real_robot.sim.line import Line, Trouble


def line(seed=0, **trouble):
    return Line(np.random.default_rng(seed), Trouble(**trouble))


def test_without_trouble_everything_arrives_at_once():
    good = line()
    good.put("a", 0)
    assert good.take(0) == "a" and good.take(0) is None


def test_latency_is_exact_to_the_nanosecond():
    late = line(latency_s=0.01)
    late.put("a", 5)
    assert late.take(5 + ns(0.01) - 1) is None
    assert late.take(5 + ns(0.01)) == "a"


@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, ns(0.01)), min_size=1, max_size=60),
    st.floats(0, 0.05),
    st.floats(0, 0.9),
)
def test_nothing_overtaken_comes_out_whatever_the_jitter(seed, gaps, jitter, dropped):
    bad, now, found = line(seed, jitter_s=jitter, dropped=dropped), 0, []
    for number, gap in enumerate(gaps):
        now += gap
        bad.put(number, now)
        if (item := bad.take(now)) is not None:
            found.append(item)
    while (item := bad.take(now := now + ns(0.001))) is not None or now < ns(2):
        if item is not None:
            found.append(item)
    assert found == sorted(set(found))


def test_a_share_is_dropped_and_the_rest_is_not():
    bad = line(dropped=0.3)
    arrived = 0
    for i in range(2000):
        bad.put(i, i)
        arrived += bad.take(i) is not None
    assert 1300 < arrived < 1500


def test_what_is_cleared_never_arrives():
    late = line(latency_s=0.01)
    late.put("a", 0)
    late.clear()
    assert late.take(ns(1)) is None
