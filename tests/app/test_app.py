"""What lies beneath the page, without a browser."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
import time
import zipfile
from functools import partial
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from helpers.datasets import write_pictures
from helpers.loopback_hub import READ_TOKEN, WRITE_TOKEN
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import Budget, BudgetError, DataError, MissingExtraError, OutputError, UnlearnableError
from hf_unlearnable.app import server, words, work
from hf_unlearnable.app.jobs import Job, Step, Stopped
from hf_unlearnable.app.page import ALL_ONE, BY_FOLDER, Desk
from hf_unlearnable.app.pictures import safe_name, unpack
from hf_unlearnable.app.preview import Scene
from hf_unlearnable.app.visits import visits
from hf_unlearnable.cli.command import app
from hf_unlearnable.files import require_empty
from hf_unlearnable.protection.resample import resample_and_apply
from hf_unlearnable.protection.verification import compare
from hf_unlearnable.reports.images import smoothest_part

ROOM = 10_000_000
PAGE = SimpleNamespace(session_hash="a page")


@pytest.fixture(scope="module")
def everybody(tmp_path_factory):
    with visits(ROOM, tmp_path_factory.mktemp("app")) as everybody:
        yield everybody


@pytest.fixture
def desk(everybody):
    desk = Desk(everybody)
    desk.begin(PAGE)
    yield desk
    desk.end(PAGE)


@pytest.fixture
def visit(everybody, desk):
    return everybody.of(PAGE.session_hash)


def last(generator):
    return list(generator)[-1]


def files_of(archive: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(archive) as opened:
        return {name: np.asarray(Image.open(io.BytesIO(opened.read(name)))) for name in opened.namelist()}


# --- what is sent


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/".join(["x" * 200] * 25), None),
        ("a.png", "a.png"),
        ("holiday/sea/a b.png", "holiday/sea/a b.png"),
        ("C:\\holiday\\ä.png", "C:/holiday/ä.png"),
        ("/etc/./a.png", "etc/a.png"),
        ("../a.png", None),
        ("holiday/../../a.png", None),
        ("..\\a.png", None),
        ("a\0.png", None),
        ("", None),
        ("//", None),
        ("x" * 300, None),
    ],
)
def test_names_stay_below_one_folder(name, path):
    assert safe_name(name) == (path and Path(path))


def test_zips_are_unpacked_below_their_folder_and_tables_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in ("a.png", "sea/b.png", "../outside.png", "metadata.jsonl", "inner.zip", "more.tar"):
            archive.writestr(name, name)
    refused = unpack(tmp_path, ROOM)
    assert sorted(refused) == ["../outside.png", "inner.zip", "metadata.jsonl", "more.tar"]
    left = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    assert left == ["mine/a.png", "mine/sea/b.png"]
    assert not (tmp_path.parent / "outside.png").exists()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.png", "a.png/b.png"], "'mine/a.png/b.png', of which a part is the name of both"),
        (["a.png/b.png", "a.png"], "'mine/a.png', of which a part is the name of both"),
        (["a.png", "./a.png"], "'mine/a.png' twice"),
    ],
)
def test_names_of_a_zip_that_clash_are_told_and_nothing_is_left_half(tmp_path, names, told):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    with pytest.raises(DataError, match=re.escape(told)):
        unpack(tmp_path, ROOM)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.zip"]


def test_a_zip_that_is_damaged_or_too_large_is_told(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"'a\.zip', which cannot be opened"):
        unpack(tmp_path, ROOM)
    for packed in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", packed) as archive:
            archive.writestr("a.png", b"pixels" * 99)
        content = bytearray((tmp_path / "a.zip").read_bytes())
        content[35:45] = bytes([0xFF]) * 10
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(DataError, match=r"'a\.zip', which cannot be opened"):
            unpack(tmp_path, ROOM)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(ROOM + 1))
    with pytest.raises(DataError, match=r"expected 10\.0 MB at most"):
        unpack(tmp_path, ROOM)


@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
def test_files_come_and_go_by_a_key_alone(everybody, visit):
    client = TestClient(server.addresses(everybody))
    sent = client.put(f"/pictures/{visit.key}", params={"name": "sea/a.png"}, content=b"pixels")
    assert sent.status_code == 204
    assert (visit.home / "pictures" / "sea" / "a.png").read_bytes() == b"pixels"
    assert visit.room == ROOM - 6
    answers = {
        "another key": client.put("/pictures/guessed", params={"name": "a.png"}, content=b"x"),
        "a way out": client.put(f"/pictures/{visit.key}", params={"name": "../a.png"}, content=b"x"),
        "twice": client.put(f"/pictures/{visit.key}", params={"name": "sea/a.png"}, content=b"x"),
        "too large": client.put(f"/pictures/{visit.key}", params={"name": "b.png"}, content=bytes(ROOM)),
        "below a file": client.put(f"/pictures/{visit.key}", params={"name": "sea/a.png/b/c.png"}, content=b"x"),
        "a folder": client.put(f"/pictures/{visit.key}", params={"name": "sea"}, content=b"x"),
        "too deep": client.put(f"/pictures/{visit.key}", params={"name": "/".join(["x" * 200] * 25)}, content=b"x"),
        "nothing made": client.get(f"/protected/{visit.key}"),
    }
    unknown = {name for name, answer in answers.items() if answer.status_code == 404}
    assert unknown == {"another key", "nothing made"}
    assert {answers[name].status_code for name in answers.keys() - unknown} == {400}
    assert "of which a part is the name of both" in answers["a folder"].text
    assert visit.room == ROOM - 6
    # A table could name images of this machine: it is not even kept.
    assert client.put(f"/pictures/{visit.key}", params={"name": "a.parquet"}, content=b"x").status_code == 204
    assert visit.refused == ["a.parquet"]
    assert [file.name for file in visit.home.rglob("*") if file.is_file()] == ["a.png"]


def test_what_is_not_kept_takes_no_room(everybody, visit):
    served = server.addresses(everybody)
    client, name = TestClient(served), {"name": "a.png"}
    assert client.put(f"/pictures/{visit.key}", params=name, content=bytes(6)).status_code == 204
    assert client.put(f"/pictures/{visit.key}", params=name, content=bytes(6)).status_code == 400
    assert visit.room == ROOM - 6
    answers = []

    async def gone():
        return {"type": "http.disconnect"}

    async def answer(message):
        answers.append(message.get("status"))

    asked = {"type": "http", "method": "PUT", "path": f"/pictures/{visit.key}", "query_string": b"name=b.png"}
    asyncio.run(served({**asked, "headers": [(b"content-length", b"9")]}, gone, answer))
    assert answers[0] == 507
    assert visit.room == ROOM - 6
    assert [file.name for file in visit.home.rglob("*") if file.is_file()] == ["a.png"]
    visit.clear()
    assert visit.room == ROOM
    assert client.put(f"/pictures/{visit.key}", params=name, content=bytes(ROOM)).status_code == 204


@pytest.mark.parametrize("packed", ["pixels", "a.png"])
def test_what_zips_unpack_to_takes_room(desk, visit, tmp_path, packed):
    """Also where none of it can be read, and more than the zip itself."""
    write_pictures(tmp_path, 1, (900, 600))
    content = bytes(3_000_000) if packed == "pixels" else (tmp_path / "0.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "mine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    file = visit.place("mine.zip", size := (tmp_path / "mine.zip").stat().st_size)
    assert visit.room == ROOM - size
    file.write_bytes((tmp_path / "mine.zip").read_bytes())
    list(desk.arrived(PAGE))
    assert visit.room == ROOM - len(content)
    with pytest.raises(DataError, match="more than there is room for"):
        visit.place("b.png", ROOM - len(content) + 1)


def test_what_still_comes_keeps_its_room(desk, visit):
    file = visit.place("a.png", 1000)
    list(desk.arrived(PAGE))
    assert visit.room == ROOM - 1000
    file.write_bytes(bytes(1000))
    visit.arrived(file)
    list(desk.arrived(PAGE))
    assert visit.room == ROOM - 1000
    other = visit.place("b.png", 500)
    visit.give_up(other, 500)
    assert visit.room == ROOM - 1000


# --- the work


def test_from_pictures_to_a_zip(desk, visit):
    pictures = visit.home / "pictures" / "mine"
    originals = write_pictures(pictures, 5)
    (pictures / "broken.png").write_bytes((pictures / "0.png").read_bytes()[:200])
    (pictures / "film.mp4").write_bytes(b"film")
    (pictures / "tale & <b>.txt").write_text("text")

    *_, (status, told, _, choices, _, _, _, kinds, consent) = desk.arrived(PAGE)
    assert status == ""
    assert choices["visible"]
    assert "<b>5 pictures</b> can be protected" in told
    assert re.search(r"1 picture broken.*broken\.png", told)
    assert re.search(r"1 file left out that may be pictures.*film\.mp4</code> videos", told)
    assert "tale &amp; &lt;b&gt;.txt" in told
    assert "<b>.txt" not in told
    assert str(visit.home) not in told
    assert "5 pictures of one owner are few" in told
    assert kinds["value"] == ALL_ONE
    assert not kinds["visible"]
    assert consent["visible"]
    assert "2 files" in consent["label"]

    assert desk.preview(8, False, PAGE).count("data:image/png;base64,") == 2
    assert "This will take about" in last(desk.estimate("texture", PAGE))

    refused = last(desk.protect(3, True, ALL_ONE, "texture", False, PAGE))
    assert "Say that you go on without them" in refused[0]
    assert visit.made is None
    *steps, done = desk.protect(3, True, ALL_ONE, "texture", True, PAGE)
    assert steps
    assert all("<progress" in step[0] for step in steps)
    assert "5 pictures protected" in done[4]
    assert f"protected/{visit.key}" in done[4]
    made = files_of(visit.home / "protected.zip")
    assert made.keys() == {f"mine/{name}" for name in originals}
    for name, before in originals.items():
        change = np.abs(made[f"mine/{name}"].astype(int) - before).max()
        assert 1 <= change <= 3


@pytest.mark.parametrize("folders", [("train", "test"), ("test",), ("mine", "holiday/test")])
def test_folders_that_would_be_splits_are_refused(visit, folders):
    """Only ``train`` of them would be protected, and the visitor believes that all is."""
    for folder in folders:
        write_pictures(visit.home / "pictures" / folder, 3)
    if folders == ("mine", "holiday/test"):
        assert work.look(visit.home, ROOM, ()).pictures == 6
        return
    with pytest.raises(DataError, match=r"taken for parts of a dataset, here test, .* rename them"):
        work.look(visit.home, ROOM, ())


def test_a_picture_that_goes_out_clean_is_named():
    pixels = np.full((3, 8, 8), 100, dtype=np.uint8)
    checked = compare([(pixels, pixels), *[(pixels, pixels + 8)] * 3], Budget(8))
    told = words.made(work.Made(checked, 4, 1000, unchanged=("/tmp/visit/pictures/mine/clear.png",)), "key")
    assert "<b>3 pictures protected.</b>" in told
    assert "1 picture did not change and would be published clean" in told
    assert "<code>mine/clear.png</code>" in told


def test_folders_are_counted_without_what_is_broken(desk, visit):
    for kind, count in (("hills", 2), ("sea", 3)):
        write_pictures(visit.home / "pictures" / kind, count)
    (visit.home / "pictures" / "sea" / "broken.png").write_bytes(b"no")
    _, found, *_, kinds, _ = last(desk.arrived(PAGE))
    assert "<b>5 pictures</b> can be protected" in found
    assert "Folders: hills (2), sea (3)." in found
    assert kinds["visible"]


def test_folders_of_kinds_get_the_slow_method_too(desk, visit):
    for kind in ("sea", "hills"):
        write_pictures(visit.home / "pictures" / kind, 3)
    *_, (*_, kinds, consent) = desk.arrived(PAGE)
    assert kinds["visible"]
    assert kinds["value"] == BY_FOLDER
    assert not consent["visible"]
    assert [name for _, name in desk.kinds(BY_FOLDER, "mi-ue")["choices"]] == ["texture", "mi-ue"]
    assert desk.kinds(BY_FOLDER, "mi-ue")["value"] == "mi-ue"
    alone = desk.kinds(ALL_ONE, "mi-ue")
    assert [name for _, name in alone["choices"]] == ["texture"]
    assert alone["value"] == "texture"
    quick, slow = (visit.job(work.estimate, visit.looked, method).wait() for method in ("texture", "mi-ue"))
    assert min(quick, slow) > 0  # which is longer is for the clock to say


@pytest.mark.parametrize(("by_folder", "count"), [(True, 8), (False, 9)])
def test_pictures_beside_folders_belong_where_folders_are_no_kinds(by_folder, count, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{kind}/{number}.png" for kind in ("sea", "town") for number in range(4)]
    for name in [*names, "loose.png"]:
        (tmp_path / work.PICTURES / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / work.PICTURES / name)
    looked = work.look(tmp_path, ROOM, ())
    assert work.protect(tmp_path, looked, "texture", Budget(8), by_folder=by_folder).pictures == count


def test_pictures_beside_one_folder_are_counted_as_they_are_protected(desk, visit):
    write_pictures(visit.home / "pictures" / "mine", 4)
    write_pictures(visit.home / "pictures" / "mine" / "sketches", 1)
    _, found, *_, kinds, consent = last(desk.arrived(PAGE))
    assert "<b>5 pictures</b> can be protected" in found
    assert "left out" not in found
    assert not kinds["visible"]
    assert not consent["visible"]
    looked = work.look(visit.home, ROOM, ())
    assert work.protect(visit.home, looked, "texture", Budget(8), by_folder=False).pictures == 5


@pytest.mark.usefixtures("hub")
def test_a_push_takes_the_token_that_was_typed_and_keeps_it_nowhere(desk, visit, name, hub):
    write_pictures(visit.home / "pictures", 3)
    list(desk.arrived(PAGE))
    list(desk.protect(8, False, ALL_ONE, "texture", False, PAGE))
    assert "Give a name" in last(desk.push(name, " ", False, PAGE))[0]  # that of this machine is not taken
    told, field = last(desk.push(name, "hf_wrong", False, PAGE))
    assert "hu-error" in told
    assert "token" in told
    assert field == ""
    told, field = last(desk.push(name, WRITE_TOKEN, False, PAGE))
    assert f"{name}" in told
    assert "Pushed" in told
    assert field == ""
    kept = [file for file in visit.home.rglob("*") if file.is_file() and WRITE_TOKEN.encode() in file.read_bytes()]
    assert kept == []


@pytest.mark.usefixtures("hub")
def test_a_push_tells_its_attempts_and_speaks_of_the_page(desk, visit, name, hub):
    write_pictures(visit.home / "pictures", 3)
    list(desk.arrived(PAGE))
    list(desk.protect(8, False, ALL_ONE, "texture", False, PAGE))
    hub.fail("POST", "/api/validate-yaml", "before")
    *steps, (done, _) = desk.push(name, WRITE_TOKEN, False, PAGE)
    said = "".join(told for told, _ in steps)
    assert f"push to {name} (" in said
    assert re.search(r"Attempt 2 of 5 in \d s", said)
    assert "Pushed" in done
    refused = {
        "token": last(desk.push(name, READ_TOKEN, False, PAGE))[0],
        "public": last(desk.push(name, WRITE_TOKEN, True, PAGE))[0],
    }
    assert "give it here" in refused["token"]
    assert "press Push again before you close the page" in refused["token"]
    assert "leave &#x27;Everybody may see them&#x27; out" in refused["public"]
    for told in refused.values():
        assert str(visit.home) not in told
        assert not re.search(r"hf-unlearnable|hf repos|hf auth|private=|--", told)


def test_nothing_is_there_for_who_has_left(desk, visit):
    home = visit.home
    assert home.stat().st_mode & 0o777 == 0o700
    write_pictures(home / "pictures", 2)
    desk.clear(PAGE)
    assert [file for file in home.rglob("*") if file.is_file()] == []
    write_pictures(home / "pictures", 2)
    desk.end(PAGE)
    assert not home.exists()
    assert "has ended" in last(desk.arrived(PAGE))[0]
    assert "has ended" in last(desk.protect(8, False, ALL_ONE, "texture", True, PAGE))[0]


def test_a_picture_that_is_too_large_is_told_in_words_of_the_page(desk, visit):
    write_pictures(visit.home / "pictures", 2)
    Image.new("1", (20_000, 5_000)).save(visit.home / "pictures" / "wall.png")
    _, found, *_ = last(desk.arrived(PAGE))
    assert "wall.png</code> got an image of more than" in found
    assert "allow more with the command protect, or leave it out" in found


def test_pictures_of_which_none_can_be_read_are_told(desk, visit):
    (visit.home / "pictures").mkdir()
    (visit.home / "pictures" / "a.png").write_bytes(b"no")
    status, *_ = last(desk.arrived(PAGE))
    assert "got 1 picture, of which none can be read (a.png: " in status
    assert str(visit.home) not in status


@pytest.mark.parametrize(
    ("refused", "name", "message"),
    [
        (["p.parquet"], None, "got p.parquet, which is not read here; expected pictures"),
        ([], None, "got nothing; expected pictures"),
        ([], "a.txt", "got what you sent, in which there is no image"),
        ([], "test/a.png", "parts of a dataset, here test"),
    ],
)
def test_an_error_names_what_was_sent_and_no_place_of_this_machine(desk, visit, refused, name, message):
    visit.refused += refused
    if name:
        file = visit.home / "pictures" / name
        file.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(file, "png") if name.endswith("png") else file.write_text("x")
    status, *_ = last(desk.arrived(PAGE))
    assert message in status
    assert str(visit.home) not in status


# --- the preview


@pytest.mark.parametrize("budget", [Budget(8), Budget(6, visibility="adaptive")], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_preview_is_what_would_be_released(budget, channels):
    """The part at full size is that of the whole picture after the work, but for the rounding of a few pixels."""
    rough = np.random.default_rng(0).integers(0, 256, (channels, 30, 41), dtype=np.uint8)
    planes = [Image.fromarray(plane).resize((1400, 900), Image.Resampling.BICUBIC) for plane in rough]
    pixels = np.stack([np.asarray(plane) for plane in planes])
    scene = Scene.of(pixels, (256, 256))
    levels = scene.levels(budget)
    assert 1 <= np.abs(levels).max() <= budget.radius
    shown = scene.preview(budget, levels)
    place = smoothest_part(pixels)
    released = resample_and_apply(pixels, levels, budget)
    for content, expected in zip(shown.part, (pixels, released), strict=True):
        part = np.atleast_3d(np.asarray(Image.open(io.BytesIO(content)))).transpose(2, 0, 1)
        difference = np.abs(part.astype(int) - expected[(slice(None), *place)])
        assert difference.max() <= 1
        assert difference.mean() < 0.001
    assert shown.size == (1400, 900)
    assert Image.open(io.BytesIO(shown.whole[1])).size == (700, 450)


def test_what_is_seen_through_lies_on_white_and_is_not_changed():
    pixels = np.full((4, 20, 20), 120, dtype=np.uint8)
    pixels[3, :, :10], pixels[3, :, 10:] = 0, 255
    scene = Scene.of(pixels, (20, 20))
    levels = scene.levels(Budget(8))
    before, after = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in scene.preview(Budget(8), levels).part
    )
    assert (before[:, :10] == 255).all()
    assert (after[:, :10] == 255).all()
    assert (before[:, 10:] == 120).all()
    np.testing.assert_array_equal(after[:, 10:].astype(int) - 120, levels.transpose(1, 2, 0)[:, 10:])


# --- processes


def test_work_is_stopped_at_once(tmp_path):
    job = Job(partial(time.sleep, 60), tmp_path)
    begun = time.monotonic()
    steps = job.steps()
    assert next(steps).share == 0
    job.stop()
    with pytest.raises(Stopped):
        list(steps)
    assert time.monotonic() - begun < 20
    assert not job.goes_on


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        (os.abort, UnlearnableError, "ended from outside"),
        (partial(Budget.parse, "much"), BudgetError, "'much'"),
        (partial(require_empty, Path("/")), OutputError, "exists already"),  # an OSError too
        (partial(int, "x"), UnlearnableError, "^ValueError: invalid literal"),
    ],
)
def test_work_that_fails_is_told(tmp_path, what, kind, message):
    with pytest.raises(kind, match=message):
        Job(what, tmp_path).wait()


def test_how_long_it_will_take_is_told_by_what_is_done():
    assert Step("reading", 0.25, 10.0).left == 30.0
    assert Step("reading", 0.0, 10.0).left is None


# --- the command


def test_the_command_says_at_once_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = CliRunner().invoke(app, ["app"])
    assert isinstance(done.exception, MissingExtraError)
    assert "pip install 'hf-unlearnable[app]'" in str(done.exception)
    assert done.output == ""


def test_only_this_machine_is_served_and_a_taken_port_is_told():
    assert signature(server.launch).parameters["host"].default == "127.0.0.1"
    assert "127.0.0.1" in CliRunner().invoke(app, ["app", "--help"]).output
    with server.listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OutputError, match="--port 0"):
            server.listen("127.0.0.1", taken.getsockname()[1])
