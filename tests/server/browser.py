"""Headless Chromium, driven over the W3C WebDriver protocol by Debian's chromedriver: as a user's hands and eyes."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"enter": "\ue007", "shift": "\ue008", "escape": "\ue00c", "tab": "\ue004", "space": " ", "down": "\ue015"}


class Browser:
    """One window."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=60)
        options = {"args": list(FLAGS), "binary": CHROMIUM}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
        self._session = f"/session/{made['sessionId']}"

    def _do(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"{self._session}{path}", json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise RuntimeError(f"{value['error']}: {value['message']}")
        return value

    def open(self, url: str) -> None:
        """Go to a page; what an earlier one logged is forgotten."""
        self.logged()
        self._do("POST", "/url", {"url": url})

    def run(self, script: str, *args: Any) -> Any:
        """Run a script's body in the page and return what it returns."""
        return self._do("POST", "/execute/sync", {"script": script, "args": list(args)})

    def find(self, css: str) -> str:
        """Find an element."""
        return str(self._do("POST", "/element", {"using": "css selector", "value": css})[ELEMENT])

    def text(self, css: str) -> str:
        """Read the text of an element as it is shown."""
        return str(self._do("GET", f"/element/{self.find(css)}/text"))

    def click(self, css: str) -> None:
        """Click as a mouse does: on what is seen, at its place."""
        self._do("POST", f"/element/{self.find(css)}/click", {})

    def type(self, *keys: str) -> None:
        """Press keys wherever the focus is: text, or names of keys as ``<enter>``, ``<shift>`` holding the next one."""
        actions: list[dict[str, str]] = []
        held: list[str] = []
        for key in keys:
            name = key[1:-1] if f"<{key[1:-1]}>" == key and key[1:-1] in KEYS else None
            if name == "shift":
                held.append(KEYS["shift"])
                actions.append({"type": "keyDown", "value": KEYS["shift"]})
                continue
            for one in [KEYS[name]] if name is not None else key:
                actions += [{"type": "keyDown", "value": one}, {"type": "keyUp", "value": one}]
            actions += [{"type": "keyUp", "value": one} for one in held]
            held = []
        self._do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def role(self, css: str) -> tuple[str, str]:
        """Ask the accessibility tree for an element's role and name."""
        place = f"/element/{self.find(css)}"
        return str(self._do("GET", f"{place}/computedrole")), str(self._do("GET", f"{place}/computedlabel"))

    def cdp(self, command: str, **params: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self._do("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the page."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip

    def dark(self, on: bool) -> None:
        """Prefer dark or light colours."""
        value = "dark" if on else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def shoot(self, path: Path) -> None:
        """Take a picture of the window."""
        path.write_bytes(base64.b64decode(self._do("GET", "/screenshot")))

    def logged(self) -> list[str]:
        """Take what the page's console holds: errors, refused by the policy or thrown by scripts."""
        return [one["message"] for one in self._do("POST", "/se/log", {"type": "browser"}) if one["level"] == "SEVERE"]

    def wait(self, condition: str, *args: Any, seconds: float = 40) -> Any:
        """Wait until a script's expression is true, and return it.

        Raises:
            AssertionError: it never was; with what the page shows.
        """
        return eventually(
            lambda: self.run(f"return ({condition})", *args), seconds, lambda: f"{condition}\n{self.shown()}"
        )

    def shown(self) -> str:
        """Read the whole page."""
        return str(self.run("return document.body.innerText"))

    def close(self) -> None:
        self._do("DELETE", "")
        self._http.close()


def eventually(ask: Callable[[], Any], seconds: float = 40, say: Callable[[], str] = str) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"never came true: {say()}"
        time.sleep(0.03)
    return answer


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser, and end it."""
    process = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "successfully on port" in line)
        made = Browser(f"http://127.0.0.1:{line.rsplit(' ', 1)[1].strip().rstrip('.')}")
        try:
            yield made
        finally:
            made.close()
    finally:
        process.terminate()
        process.wait(10)
