"""What the tests of pages share: figures made by hand, everything that a page refers to, and a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from hf_unlearnable import Report
from hf_unlearnable.evaluation.cases import case_of
from hf_unlearnable.evaluation.results import Result

HOSTILE = "<script src='http://evil.example/x.js'></script>$x^{"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


def made(figures, chance=0.1, victims=("small-resnet",), seeds=(987654,)):
    """A report with (case, defence) -> last accuracy."""
    results = tuple(
        Result(victim, case, ratio_of(case), defence, seed, (last + 0.05, last))
        for victim in victims
        for (case, defence), last in figures.items()
        for seed in seeds
    )
    return Report(results, chance, 100, 50, 10, {"epochs": 2}, {"torch": "9.9"})


def ratio_of(case, chosen=0.5):
    """The ratio of a case, where it has one of its own."""
    ratio = case_of(case).ratio
    return chosen if ratio is None else ratio


class Sources(HTMLParser):
    """Everything that a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.found, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]


def overflow(page, width, scratch):
    """By how many pixels a page is wider than a window of ``width``, as Chromium lays it out."""
    return max(0, measured(page, width, scratch, "d.scrollWidth") - width)


def measured(page, width, scratch, what):
    """What a script tells of the element ``d`` of a page in a window of ``width``, a whole number."""
    # A frame of the width to test: headless windows have a least width of their own.
    shutil.copy(page, scratch / "page.html")
    (scratch / "frame.html").write_text(
        f"<iframe id=f style='width:{width}px;height:900px;border:0' src=page.html></iframe><pre id=o></pre><script>"
        "f.onload = () => { const d = f.contentDocument.documentElement;"
        f"o.textContent = `RESULT ${{{what}}} ${{d.clientWidth}}`; }}</script>"
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu",
            "--allow-file-access-from-files", "--disable-background-networking", "--disable-component-update",
            "--no-first-run", f"--user-data-dir={scratch / 'profile'}", "--virtual-time-budget=5000",
            "--dump-dom", f"file://{scratch / 'frame.html'}",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"RESULT (\d+) (\d+)", done.stdout)
    assert found, done.stderr
    assert int(found[2]) == width
    return int(found[1])
