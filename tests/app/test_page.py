"""The page in a real browser: what people see and do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers.datasets import write_pictures
from helpers.pages import CHROMIUM, NEEDS_CHROMIUM
from PIL import Image
from playwright.sync_api import sync_playwright

pytestmark = [NEEDS_CHROMIUM, pytest.mark.thorough]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the command serves the page."""
    scratch = tmp_path_factory.mktemp("served")
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_unlearnable", "app", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        line = next(line for line in process.stdout if "The page is at" in line)
        yield line.split()[4].rstrip(";")
        assert [folder.stat().st_mode & 0o777 for folder in scratch.glob(".unlearnable-app-*")] == [0o700]
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[0]
    assert [file for file in scratch.rglob("*") if file.is_file()] == []  # a polite kill deletes everything
    assert not list(scratch.glob(".unlearnable-app-*"))
    assert "picture" not in said  # no name of a file was logged


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visitors(browser, address):
    """Opens the page as another visitor; a request that goes elsewhere, or an error of a script, is a failure."""
    elsewhere, errors, contexts = [], [], []

    def visitor(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(120_000)  # other tests may have the cores
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith(("http", "ws")) and requests(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".hu-drop")
        return page

    def requests(url):
        if not url.startswith(address):
            elsewhere.append(url)

    yield visitor
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert errors == []


def drop(page, path):
    """Drop a file or a folder on the page, as a hand would."""
    box = page.locator(".hu-drop").bounding_box()
    at = {"x": box["x"] + 30, "y": box["y"] + 30}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    hand = page.context.new_cdp_session(page)
    for what in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": what, **at, "data": data})


def fetched(page):
    with page.expect_download() as download:
        page.click(".hu-fetch")
    with zipfile.ZipFile(download.value.path()) as archive:
        return {name: np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()}


def assert_within(made, originals, radius):
    assert made.keys() == originals.keys()
    for name, before in originals.items():
        assert 1 <= np.abs(made[name].astype(int) - before).max() <= radius


def test_two_visitors_drop_protect_stop_and_fetch(visitors, tmp_path):
    """A folder with a broken picture, and at the same time folders of two kinds; each gets their own."""
    mine = write_pictures(tmp_path / "picture-folder", 4, size=(400, 300))
    (tmp_path / "picture-folder" / "broken.png").write_bytes(b"\x89PNG no")
    theirs = {}
    for kind in ("sea", "hills"):
        made = write_pictures(tmp_path / "kinds" / kind, 40)  # so many that MI-UE is at work until it is stopped
        theirs |= {f"kinds/{kind}/{name}": pixels for name, pixels in made.items()}
    with zipfile.ZipFile(tmp_path / "kinds.zip", "w") as archive:
        for file in sorted((tmp_path / "kinds").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "kinds"))

    first, second = visitors(), visitors()
    drop(first, tmp_path / "picture-folder")
    second.set_input_files(".hu-drop input:not([webkitdirectory])", tmp_path / "kinds.zip")
    first.wait_for_selector(".hu-compare")
    assert "4 pictures can be protected" in first.inner_text(".hu-found")
    assert "picture-folder/broken.png" in first.inner_text(".hu-error")
    second.wait_for_selector(".hu-compare")
    assert "hills (40), sea (40)" in second.inner_text(".hu-found")

    second.get_by_label("MI-UE").check()
    second.get_by_text("This will take about").wait_for()
    first.click("#hu-go")  # without a word about the broken one
    first.get_by_text("Say that you go on without them").wait_for()
    first.get_by_label("Go on without the 1 file").check()
    before = first.locator(".hu-part img").first.get_attribute("src")
    first.get_by_label("number input").fill("3")
    first.get_by_label("number input").blur()
    first.wait_for_function("src => document.querySelector('.hu-part img').src !== src", arg=before)
    first.click("#hu-go")
    second.click("#hu-go")
    second.click("#hu-stop")
    second.get_by_text("Stopped.").wait_for()
    assert second.locator(".hu-fetch").count() == 0

    first.wait_for_selector(".hu-fetch")
    assert_within(fetched(first), {f"picture-folder/{name}": pixels for name, pixels in mine.items()}, 3)

    second.get_by_label("Texture").check()
    second.click("#hu-go")
    second.wait_for_selector(".hu-fetch")
    assert_within(fetched(second), theirs, 8)
    link = second.locator(".hu-fetch").evaluate("link => link.href")
    second.get_by_text("Delete all").click()
    second.locator(".hu-fetch").wait_for(state="hidden")
    assert second.request.get(link).status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(visitors, scheme, tmp_path):
    write_pictures(tmp_path / "pictures", 2)
    page = visitors(390, scheme)
    page.set_input_files(".hu-drop input[webkitdirectory]", tmp_path / "pictures")
    page.wait_for_selector(".hu-compare")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".hu-whole input").fill("80")
    cut = page.locator(".hu-whole .hu-before").evaluate("image => getComputedStyle(image).clipPath")
    assert "20%" in cut
