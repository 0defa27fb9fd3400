"""Look at a page as a reader's browser does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from envtune.workbook.doctor import BROWSERS

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
IMAGES = "[...document.images].map(i => [i.currentSrc.slice(0, 60), i.alt.trim(), i.complete ? i.naturalWidth : 0])"
NO_ALT = "No description has been provided"  # what nbconvert says for it
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def problems(browser: Browser, page_file: Path, width: int = 1280) -> list[str]:
    """What is wrong with a page: outside requests, console errors, broken or mute images, horizontal scroll."""
    found: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    try:
        page.on("request", lambda r: found.append(f"requests {r.url[:80]}") if _outside(r.url) else None)
        page.on("requestfailed", lambda r: found.append(f"cannot load {r.url[:80]}"))
        page.on("console", lambda m: found.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: found.append(f"script error: {e}"))
        page.goto(page_file.resolve().as_uri(), wait_until="load")
        for source, alt, natural_width in page.evaluate(IMAGES):
            if not natural_width:
                found.append(f"broken image {source}")
            if not alt or alt.startswith(NO_ALT):
                found.append(f"image without alt {source}")
        content, window = page.evaluate(WIDTHS)
        if content > window:
            found.append(f"scrolls sideways: {content} px in a window of {window}")
    finally:
        page.close()
    return found


def _outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))
