"""`python -m tests.agents.alone WORD…`: run a command with no network but the loopback interface.

The command takes this process's place. Exit status 77, with the reason on stderr, where the kernel has no network
namespace for us. `is_alone` tells whether this process is in such a one.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from tests.agents.install import SKIPPED, Unavailable

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
SOMEWHERE: Final = ("192.0.2.1", 9)  # an address for documentation, which nobody has


def main(words: list[str]) -> int:
    try:
        leave_the_network()
    except Unavailable as error:
        print(f"agents: not run: {error}", file=sys.stderr)
        return SKIPPED
    os.execvp(words[0], words)


def is_alone() -> bool:
    """Whether nothing can be reached from here but this machine. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(SOMEWHERE)
        except OSError as error:
            return error.errno == errno.ENETUNREACH
    return False


def leave_the_network() -> None:
    """Move this process into a network namespace of its own. Raises Unavailable."""
    if sys.platform != "linux":
        raise Unavailable("network namespaces need Linux")
    user, group = os.geteuid(), os.getegid()
    try:
        try:
            _unshare(CLONE_NEWNET)
        except PermissionError:
            _unshare(CLONE_NEWUSER | CLONE_NEWNET)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    except OSError as error:
        hint = "as root it may do; in a container: --cap-add SYS_ADMIN"
        raise Unavailable(f"no network namespace of our own: {error.strerror}; {hint}") from error


def _unshare(what: int) -> None:
    """unshare(2), which Python has from 3.12 on. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).unshare(what) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
