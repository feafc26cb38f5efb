"""Depot: where the weights are that workers of this host load, and how the missing ones come."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from planner.run import haul
from planner.run.blobs import names_of, recipes
from planner.run.checkpoint import open_checkpoint
from planner.run.crew import START_S, Post, Worker, WorkerLostError
from planner.run.frames import PeerLostError
from planner.run.transport import Listener

if TYPE_CHECKING:
    from planner.run.fleet import Fleet


class Depot:
    """The weights of a fleet: the checkpoint, and what cold standbys have had brought."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._brought: dict[tuple[str, Post], Path | None] = {}
        """By node and stage: the folder; None where the node itself knows."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def checkpoint(self, node: str, post: Post) -> Path:
        """The directory from which a worker loads a stage."""
        return self._brought.get((node, post)) or self._fleet.settings.checkpoint

    def supply(self, worker: Worker, post: Post, silence_s: float) -> None:
        """Has the weights of a stage come to a worker's node, if that is a cold standby.

        A node of an inventory pulls them; for a worker of this host they go over the link that is
        imitated, and counts as lost where it is silent for ``silence_s``. Raises WorkerLostError,
        RunError.
        """
        cold = any(
            (one.node, (one.pipeline, one.stage), one.state) == (worker.node, post, "cold")
            for one in self._fleet.plan.standbys
        )
        if cold and (worker.node, post) not in self._brought:
            self._bring(worker, post, silence_s)

    def _bring(self, worker: Worker, post: Post, silence_s: float) -> None:
        stage = self._fleet.stage(post)
        if worker.place.obtain(stage.start, stage.stop):
            self._brought[worker.node, post] = None
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="planner-weights-")
        folder = Path(self._folder.name) / f"{worker.node}-{post[0]}-{post[1]}"
        folder.mkdir(exist_ok=True)
        opened = open_checkpoint(self._fleet.settings.checkpoint)
        config, made = opened.config, recipes(opened)
        names = names_of(config.layers, config.tied, [(stage.start, stage.stop)])
        listener = Listener(self._fleet.secret)
        order = {"port": listener.port, "secret": self._fleet.secret, "folder": str(folder)}
        try:
            worker.tell({"pull": order})
            shape = self._fleet.shape(self._fleet.home, worker.node)
            haul.send(listener, {name: made[name] for name in sorted(names)}, shape)
        except (TimeoutError, PeerLostError) as error:
            raise WorkerLostError(worker, f"{worker.node} did not take weights: {error}") from None
        finally:
            listener.close()
        worker.hear("pulled", START_S, silence_s)
        self._brought[worker.node, post] = folder

    def close(self) -> None:
        """Removes what was brought."""
        if self._folder is not None:
            self._folder.cleanup()
