"""Look at a page as a reader's browser does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

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


LOOK = """
selector => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
  const behind = node => {
    if (!node) return [255, 255, 255];
    const colour = parse(getComputedStyle(node).backgroundColor);
    return colour.length === 3 || colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(node.parentElement));
  };
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Set();
  const shown = [...document.querySelectorAll(selector)].flatMap(root => [root, ...root.querySelectorAll('*')]);
  for (const node of shown) {
    if (node.tagName === 'STYLE' || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), name = `${node.tagName.toLowerCase()}.${node.className}`;
    if (['TD', 'TH'].includes(node.tagName)) {
      const wanted = node.classList.contains('num') ? 'right' : 'left';
      if (style.textAlign !== wanted) found.add(`${name} is aligned ${style.textAlign}`);
    }
    if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
    const below = behind(node), [a, b] = [light(over(parse(style.color), below)), light(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.add(`${name}: contrast ${contrast.toFixed(1)} of "${node.innerText.slice(0, 30)}"`);
  }
  return [shown.length, [...found]];
}
"""


def hard_to_read(page: Page, selector: str) -> list[str]:
    """Text with a contrast below 4.5 (WCAG 2.2, AA), and cells that are not aligned as tables of this project are.

    Raises:
        AssertionError: nothing matches the selector.
    """
    looked_at, found = page.evaluate(LOOK, selector)
    assert looked_at, f"nothing matches {selector}"
    return list(found)
