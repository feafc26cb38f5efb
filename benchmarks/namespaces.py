"""A plan on machines of its own: network namespaces with addresses and wires of a rate.

python -m benchmarks.namespaces MANIFEST [--rate 100mbit] [--cut NODE AFTER_S FOR_S] [OPTION ...]

Needs root and iproute2. Makes keys and an inventory, signs the manifest, starts ``planner node`` in
every namespace and ``planner run --nodes`` outside of them; ``--cut`` takes a node's wire away for
a while after the run has begun to answer. Other options, such as ``--compile``, go to the run.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from planner.files.manifest import read_manifest
from tests.namespaces import Machine, machines, missing

PLANNER = [sys.executable, "-m", "planner"]
PORT = 7431


@contextlib.contextmanager
def daemon(machine: Machine, keys: Path, weights: Path, log: Path) -> Iterator[None]:
    """A node in its namespace."""
    words = [
        *PLANNER, "node", "--listen", f"{machine.address}:{PORT}", "--keys", str(keys),
        "--weights", str(weights), "--threads", "1",
    ]  # fmt: skip
    with log.open("w") as out, subprocess.Popen(machine.inside(words), stderr=out) as process:
        while "listens at" not in log.read_text():
            time.sleep(0.1)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


def cut_later(machine: Machine, log: Path, after_s: float, for_s: float) -> None:
    """Cuts a wire once the connections of a run lie on it, and mends it."""
    while "deliver" not in log.read_text():
        time.sleep(0.1)
    time.sleep(after_s)
    machine.cut()
    print(f"wire to {machine.name} cut", flush=True)
    time.sleep(for_s)
    machine.mend()
    print(f"wire to {machine.name} mended", flush=True)


def main() -> None:
    """Builds the machines, runs the plan on them and takes them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--requests", default="8")
    parser.add_argument("--cut", nargs=3, metavar=("NODE", "AFTER_S", "FOR_S"))
    options, more = parser.parse_known_args()
    if why := missing():
        raise SystemExit(why)
    plan = read_manifest(options.manifest).plan
    names = list(dict.fromkeys([*plan.nodes, *(standby.node for standby in plan.standbys)]))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        manifest = Path(shutil.copy(options.manifest, folder / "manifest.yaml"))
        made = stack.enter_context(machines(names, options.rate))
        nodes = [f"--node={name}={machine.address}:{PORT}" for name, machine in made.items()]
        keys = folder / "keys"
        init = ["node", "init", str(keys), *nodes, "--coordinator", "coordinator.desk"]
        subprocess.run([*PLANNER, *init], check=True)
        subprocess.run(
            [*PLANNER, "node", "sign", str(manifest), "--authority", str(keys)], check=True
        )
        for name, machine in made.items():
            log = folder / f"{name}.log"
            stack.enter_context(daemon(machine, keys / name, folder / f"weights-{name}", log))
        if options.cut:
            name, after_s, for_s = options.cut
            waiting = (made[name], folder / f"{name}.log", float(after_s), float(for_s))
            threading.Thread(target=cut_later, args=waiting, daemon=True).start()
        run = ["run", str(manifest), "--nodes", str(keys / "inventory.yaml")]
        subprocess.run([*PLANNER, *run, "--requests", options.requests, *more], check=False)


if __name__ == "__main__":
    main()
