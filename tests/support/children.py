"""Awkward child programs, by name: `agent_that("ignores_sigterm")` is an argv for a real process.

Each prints `ready` once all it starts is running. Whatever they start would live for a minute if nobody ended it.
"""

import os
import sys
from pathlib import Path
from typing import Final

import psutil

_IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""

_SETSID_CHILD = """
import subprocess, sys, time
subprocess.Popen(["sleep", "60"], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""

_DOUBLE_FORKS = """
import os, signal, sys, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(write, b"x")
        time.sleep(60)
    os._exit(0)
os.wait()
os.read(read, 1)
print("ready", flush=True)
time.sleep(60)
"""

_FORKS_AND_LEAVES = """
import os, signal, time
read, write = os.pipe()
for stubborn in (False, True):
    if os.fork() == 0:
        os.setsid()
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(write, b"x")
        time.sleep(60)
for _ in range(2):
    os.read(read, 1)
print("ready", flush=True)
os._exit(0)
"""

# Each generation forks the next, into a session of its own, and ends: no process id stays for long.
_HOPS = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
"""

_STARTS_ONE_THAT_HOPS = """
import os, signal, time
if os.fork():
    print("ready", flush=True)
    time.sleep(60)
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
"""

_FORK_BOMB = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
for depth in range(5):
    os.fork()
    if depth % 2 and os.getpgrp() != os.getpid():
        os.setsid()
time.sleep(60)
"""

# Leaves the session, the group and the environment by which it could be told.
_HIDES = """
import os, time
read, write = os.pipe()
os.set_inheritable(write, True)
if os.fork() == 0:
    os.execve("/bin/sh", ["sh", "-c", f"echo x >&{write}; exec sleep 60"], {"PATH": os.environ["PATH"]})
os.read(read, 1)
print("ready", flush=True)
time.sleep(60)
"""

# As above, and without a parent.
_DISAPPEARS = """
import os, time
read, write = os.pipe()
os.set_inheritable(write, True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", f"echo x >&{write}; exec sleep 60"], {})
    os._exit(0)
os.wait()
os.read(read, 1)
print("ready", flush=True)
time.sleep(60)
"""

_STOPS_ITS_PARENT = """
import os, signal, time
os.kill(os.getppid(), signal.SIGSTOP)
print("ready", flush=True)
time.sleep(60)
"""

_KILLS_ITS_PARENT = """
import os, signal, subprocess, time
subprocess.Popen(["sleep", "60"], start_new_session=True)
print("ready", flush=True)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""

# Nobody above it can hear or end anything then, unless the one that was killed woke the other one before.
_STOPS_ITS_PARENT_AND_KILLS_THE_NEXT = """
import os, signal, time
parent = os.getppid()
with open(f"/proc/{parent}/stat") as stat:
    above = int(stat.read().rpartition(")")[2].split()[1])
print("ready", flush=True)
os.kill(parent, signal.SIGSTOP)
os.kill(above, signal.SIGKILL)
time.sleep(60)
"""

_LEAKS_STDOUT = """
import subprocess
subprocess.Popen(["sleep", "60"], start_new_session=True)
print("ready", flush=True)
"""

PROGRAMS: Final = {
    "ignores_sigterm": _IGNORES_SIGTERM,
    "starts_a_session": _SETSID_CHILD,
    "double_forks": _DOUBLE_FORKS,
    "forks_and_leaves": _FORKS_AND_LEAVES,
    "hops": _HOPS,
    "starts_one_that_hops": _STARTS_ONE_THAT_HOPS,
    "fork_bomb": _FORK_BOMB,
    "hides": _HIDES,
    "disappears": _DISAPPEARS,
    "stops_its_parent": _STOPS_ITS_PARENT,
    "stops_its_parent_and_kills_the_next": _STOPS_ITS_PARENT_AND_KILLS_THE_NEXT,
    "kills_its_parent": _KILLS_ITS_PARENT,
    "leaks_stdout": _LEAKS_STDOUT,
}


def agent_that(name: str) -> tuple[str, ...]:
    """The argv of a program of `PROGRAMS`."""
    return (sys.executable, "-I", "-S", "-c", PROGRAMS[name])


def living_below(folder: Path) -> list[psutil.Process]:
    """Every living process, but this one, whose current folder is `folder` or below it, zombies left out.

    Programs of this module stay in the folder they were started in, so none can hide from this.
    """
    found = []
    for process in psutil.process_iter():
        try:
            here = Path(process.cwd())
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and (here == folder or folder in here.parents):
            found.append(process)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
