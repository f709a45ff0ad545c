"""A wall clock that jumps by an hour, forth and back, for one process and what it links to.

The machine's own is left alone: a small library, built here and loaded before all others, answers
in its place. Monotonic clocks are not touched, as no kernel would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from robo_offline.errors import UserError

STEP_S = 3600
SOURCE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long away(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return ((now.tv_sec * 10 + now.tv_nsec / 100000000) % 3 - 1) * %(step)d;
}
int clock_gettime(clockid_t which, struct timespec *out) {
    int found = syscall(SYS_clock_gettime, which, out);
    int wall = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE;
    if (!found && wall) out->tv_sec += away();
    return found;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which the wall clock jumps ten times a second. UserError without a
    C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise UserError("a C compiler is needed", expected="cc", remedy="apt-get install gcc")
    source, library = folder / "stepped.c", folder / "stepped.so"
    source.write_text(SOURCE.replace("%(step)d", str(STEP_S)))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}
