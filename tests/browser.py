"""A headless Chromium that opens pages and tells what they did, over its debugging protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --remote-debugging-port=0"
)
_PATIENCE_S = 60.0
_DRAWN = """
[...document.querySelectorAll("[data-figure]")].every(p => p.querySelector(".main-svg"))
  && document.querySelectorAll("[data-figure]").length
"""
_PICTURES = """
JSON.stringify(Object.fromEntries([...document.querySelectorAll("[data-figure]")].map(p => [
  p.dataset.figure,
  (p.calcdata || []).reduce((sum, trace) => sum + trace.filter(d => d.x !== false).length, 0)
])))
"""


@dataclass
class Visit:
    """What a page showed and did."""

    pictures: dict[str, int]
    """Points drawn, by figure."""
    requests: list[str]
    complaints: list[str]
    """What the console, or an exception, said."""
    overflow_px: int
    """By how much the page is wider than the window."""
    text: str
    background: str


@dataclass
class Browser:
    """One tab."""

    socket: ClientConnection
    number: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(call))
        while True:
            said = json.loads(self.socket.recv(timeout=_PATIENCE_S))
            if said.get("id") == self.number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self.events.append(said)

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def visit(self, page: Path, width_px: int, theme: str) -> Visit:
        """Opens a page and waits until all its pictures are drawn."""
        self.events.clear()
        mobile = width_px < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=900,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=page.as_uri())
        deadline_s = time.monotonic() + _PATIENCE_S
        while not self.value(_DRAWN):
            assert time.monotonic() < deadline_s, f"not drawn: {self._complaints()}"
            time.sleep(0.1)
        return Visit(
            pictures=json.loads(self.value(_PICTURES)),
            requests=[
                event["params"]["request"]["url"]
                for event in self.events
                if event["method"] == "Network.requestWillBeSent"
            ],
            complaints=self._complaints(),
            overflow_px=self.value("document.documentElement.scrollWidth - window.innerWidth"),
            text=self.value("document.body.innerText"),
            background=self.value("getComputedStyle(document.body).backgroundColor"),
        )

    def _complaints(self) -> list[str]:
        told = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(one["params"]) for one in self.events if one["method"] in told]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended afterwards."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, *_FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(one for one in process.stderr if "DevTools listening on" in one)
        port = line.split(":")[2].split("/")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tabs = json.load(answer)
        url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        with connect(url, max_size=None, ping_interval=None) as socket:
            browser = Browser(socket)
            for domain in ("Page", "Runtime", "Network", "Log"):
                browser.call(f"{domain}.enable")
            yield browser
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
