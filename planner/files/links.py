"""Lines of a scenario -> directed links, with the check that all machines can reach each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from planner.core.cluster import ANYWHERE, REGION, Line, Link, Node
from planner.core.errors import FileProblem
from planner.files.document import Document, KeyPath
from planner.files.keys import did_you_mean
from planner.files.surface import LineEntry, LinkEntry, NetworkEntry, RegionEntry

End = tuple[str, str]
_MOST_PAIRS = 5
_MOST_LINKS = 100_000


@dataclass(slots=True)
class Links:
    """Links made so far, and what is wrong with those that could not be made."""

    document: Document
    profile: Callable[[str], Line]
    """The network card of a name."""
    made: dict[End, Link] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)

    def add_network(self, network: NetworkEntry, regions: Iterable[str]) -> None:
        """Adds the default line and those between regions."""
        if network.default is not None:
            self._add((ANYWHERE, ANYWHERE), network.default, ("network", "default"))
        known = sorted(set(regions))
        for index, entry in enumerate(network.regions):
            path: KeyPath = ("network", "regions", index)
            for end in _region_ends(entry):
                if end != ANYWHERE and end not in known:
                    message = f"no node is in region {end!r}{did_you_mean(end, known)}"
                    where = "within" if entry.within is not None else "between"
                    self.problems.append(self.document.problem((*path, where), message))
            first, last = (ANYWHERE if e == ANYWHERE else REGION + e for e in _region_ends(entry))
            for pair in dict.fromkeys(((first, last), (last, first))):
                self._add(pair, entry, path)

    def add_links(self, links: Iterable[LinkEntry], ids: Mapping[str, tuple[str, ...]]) -> None:
        """Adds the links that name nodes; ``ids`` has the machines behind each name."""
        for index, entry in enumerate(links):
            path: KeyPath = ("links", index)
            ends = entry.between or (entry.src or "", entry.dst or "")
            keys = ("between", "between") if entry.between else ("from", "to")
            unknown = [(end, key) for end, key in zip(ends, keys, strict=True) if end not in ids]
            for end, key in unknown:
                message = f"{end!r} is no node{did_you_mean(end, ids)}"
                self.problems.append(self.document.problem((*path, key), message))
            if unknown:
                continue
            if len(ids[ends[0]]) * len(ids[ends[1]]) > _MOST_LINKS:
                message = f"stands for more than {_MOST_LINKS} links; use network.regions"
                self.problems.append(self.document.problem(path, message))
                continue
            pairs = list(_pairs(ids[ends[0]], ids[ends[1]], both=entry.between is not None))
            if not pairs:
                message = f"a link from {ends[0]} to itself; a node reaches itself at no cost"
                self.problems.append(self.document.problem((*path, keys[1]), message))
            for pair in pairs:
                self._add(pair, entry, path)

    def _add(self, pair: End, entry: LineEntry, path: KeyPath) -> None:
        if pair in self.made:
            message = f"the line from {pair[0]} to {pair[1]} is given twice; keep one"
            self.problems.append(self.document.problem(path, message))
            return
        figures = dict(entry.figures())
        if entry.profile is not None:
            card = self.profile(entry.profile)
            figures = {name: getattr(card, name) for name in Line.model_fields} | figures
        self.made[pair] = Link.model_validate({"src": pair[0], "dst": pair[1], **figures})


def missing_pairs(
    nodes: Iterable[Node], seats: Collection[str], links: Mapping[End, Link]
) -> tuple[list[End], bool]:
    """Ordered pairs that have no line though one may be needed; whether there are more of them.

    Layers may land on any two workers, and the coordinator talks to each from wherever it may sit.
    Pairs of regions are looked at first, so that thousands of nodes behind a few regional lines
    take no time.
    """
    if (ANYWHERE, ANYWHERE) in links:
        return [], False
    talking = [node for node in nodes if node.device is not None or node.id in seats]
    by_region: dict[str, list[str]] = {}
    for node in talking:
        by_region.setdefault(REGION + node.region, []).append(node.id)
    found: list[End] = []
    for (here, sources), (there, targets) in product(by_region.items(), repeat=2):
        if any(pair in links for pair in ((here, there), (here, ANYWHERE), (ANYWHERE, there))):
            continue
        for src in sources:
            if (src, there) in links or (src, ANYWHERE) in links:
                continue
            for dst in targets:
                pair = (src, dst)
                if src == dst or pair in links or (here, dst) in links or (ANYWHERE, dst) in links:
                    continue
                if len(found) == _MOST_PAIRS:
                    return found, True
                found.append(pair)
    return found, False


def _region_ends(entry: RegionEntry) -> tuple[str, str]:
    return entry.between or (entry.within or "", entry.within or "")


def _pairs(first: tuple[str, ...], last: tuple[str, ...], *, both: bool) -> Iterator[End]:
    """Directed pairs between the machines of two names, none to itself, each once."""
    pairs = [(a, b) for a, b in product(first, last) if a != b]
    if both:
        pairs += [(b, a) for a, b in pairs]
    yield from dict.fromkeys(pairs)
