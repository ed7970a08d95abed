"""A real Chromium on a real page: whatever it asks of any other place, or complains of, fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Where the pictures go that people look at; not under version control.
PICTURES: Final = Path(__file__).resolve().parents[2] / "build" / "page"


def find_chromium() -> str | None:
    """The browser of the system's package, not one that playwright would download."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def require_chromium() -> str:
    """Skip the test where Chromium is not installed; fail it where everything real is required."""
    found = find_chromium()
    if found is None:
        if os.environ.get("MOODLINE_REQUIRE_REAL"):
            pytest.fail("chromium is not installed and MOODLINE_REQUIRE_REAL is set", pytrace=False)
        pytest.skip("chromium is not installed")
    return found


class Watched:
    """A browser tab, and everything in it that should not be: `strangers` are requests to other places."""

    def __init__(self, tab: Any, origin: str) -> None:
        self.tab = tab
        self.origin = origin
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        tab.on("request", self._on_request)
        tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(self.origin):
            self.strangers.append(request.url)

    def glyph(self, unit: str) -> str:
        """Kind of the picture that a desk shows."""
        return str(self.tab.locator(f"[data-unit={unit}] .glyph").get_attribute("data-glyph"))

    def drawing(self, unit: str) -> str:
        """The lines of a desk's picture, without its name."""
        glyph = self.tab.locator(f"[data-unit={unit}] .glyph")
        return str(glyph.evaluate("(svg) => [...svg.children].slice(1).map((part) => part.outerHTML).join()"))

    def wait_for_glyph(self, unit: str, kind: str) -> None:
        """Return when that desk shows that picture."""
        self.tab.wait_for_selector(f"[data-unit={unit}] .glyph-{kind}")

    def text(self, selector: str) -> str:
        """The text that people read there."""
        return str(self.tab.locator(selector).inner_text())

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page under build/."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=PICTURES / f"{name}.png", full_page=True)


class Browser:
    """Opens tabs; `tabs` are checked by `opened` when the test ends."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium
        self.tabs: list[Watched] = []

    def open(self, address: str, *, width: int = 1440, height: int = 900, **context: Any) -> Watched:
        """A tab at that address, in a context of its own."""
        tab = self._chromium.new_context(viewport={"width": width, "height": height}, **context).new_page()
        tab.set_default_timeout(20_000)
        watched = Watched(tab, address)
        self.tabs.append(watched)
        tab.goto(address)
        return watched


@contextmanager
def opened() -> Iterator[Browser]:
    """A running browser. On leaving, no tab may have asked elsewhere or complained."""
    executable = require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            browser = Browser(chromium)
            yield browser
            for tab in browser.tabs:
                assert tab.strangers == []
                assert tab.complaints == []
        finally:
            chromium.close()
