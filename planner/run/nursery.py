"""Nursery: a process that has imported torch and forks the workers of this host.

Importing torch takes seconds of computing; a fork takes milliseconds. So several workers start as
fast as one, and the one that replaces a lost worker is there at once. Started as ``python -m
planner.run.nursery FD``; it ends, and its workers with it, when the process that started it does.
"""

from __future__ import annotations

import array
import atexit
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import planner
from planner.core.errors import RunError

_PID = struct.Struct("<q")
_READY_S = 300.0
_LEAVES_S = 1.0


class Nursery:
    """The starting process's end; any thread may ask for workers."""

    def __init__(self) -> None:
        source = str(Path(planner.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        self._lock = threading.Lock()
        self._sock, theirs = socket.socketpair()
        self._sock.settimeout(_READY_S)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "planner.run.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                process_group=0,  # Ctrl-C is for the coordinator, also while torch is imported
            )

    @property
    def pid(self) -> int:
        """Its process id: the parent of all workers."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it can start workers."""
        return self._child.poll() is None

    def start(self, control: socket.socket, log: int) -> tuple[int, int]:
        """Forks a worker with an end of a connection and a file to print to; raises RunError.

        Returns its process id and a descriptor that is readable once it has ended.
        """
        try:
            with self._lock:
                socket.send_fds(self._sock, [b"!"], [control.fileno(), log])
                said, passed, _, _ = socket.recv_fds(self._sock, _PID.size, 1)
        except OSError as error:
            raise RunError(f"no worker could be started: {error}") from None
        if len(said) < _PID.size or not passed:
            raise RunError("no worker could be started: torch cannot be imported")
        return int(_PID.unpack(said)[0]), passed[0]

    def close(self) -> None:
        """Ends it; it does not notice by itself while it imports torch."""
        self._sock.close()
        try:
            self._child.wait(_LEAVES_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


_STARTING = threading.Lock()
_KEPT: list[Nursery] = []


def nursery() -> Nursery:
    """The nursery of this process, started when it is first needed."""
    with _STARTING:
        if not _KEPT or not _KEPT[0].alive:
            _KEPT[:] = [Nursery()]
            atexit.register(_KEPT[0].close)
        return _KEPT[0]


def main() -> None:
    """Entry point of the process."""
    from planner.run import worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    home = socket.socket(fileno=int(sys.argv[1]))
    while True:
        _, passed, _, _ = socket.recv_fds(home, 1, 2)
        if len(passed) < 2:
            return
        control, log = passed
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            home.close()
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            worker.main(control)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        os.close(control)
        _LOGS[pid] = log
        watch = os.pidfd_open(pid)
        try:
            socket.send_fds(home, [_PID.pack(pid)], array.array("i", [watch]))
        except BrokenPipeError:  # nobody waits for it any more
            return
        os.close(watch)
        _reap()


_LOGS: dict[int, int] = {}
"""What each worker prints to, by process id."""


def _reap() -> None:
    """Takes leave of workers that have ended, and writes into their logs how."""
    while _LOGS:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        log = _LOGS.pop(pid, None)
        if log is not None:
            os.write(log, f"exit code {os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(log)


if __name__ == "__main__":
    main()
