"""What a push does when the Hub fails: nothing half visible, and the repeat succeeds."""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from datasets import load_dataset
from helpers.datasets import make_output
from helpers.environment import HUB
from helpers.loopback_hub import READ_TOKEN
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled
from typer.testing import CliRunner

from hf_unlearnable import AccessError, DataError, HubError, PrivacyError, RecipeError, SourceError, pull, push, verify
from hf_unlearnable.cli.command import app, main
from hf_unlearnable.data.patience import Patience
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.hub.retry import Retry, describe, explain

QUICK = Retry(attempts=3, delay=0.01)
# Requests in the order of a push, and how many of the same kind go before the one that is meant.
STEPS = {
    "info": ("GET", "/api/datasets/{name}$", 0),
    "create": ("POST", "/api/repos/create", 0),
    "header": ("POST", "/api/validate-yaml", 0),
    "preupload": ("POST", "/api/datasets/{name}/preupload/main", 0),
    "lfs batch": ("POST", "/datasets/{name}.git/info/lfs/objects/batch", 0),
    "lfs upload": ("PUT", "/lfs-storage/", 0),
    "lfs verify": ("POST", "/api/lfs-verify", 0),
    "data commit": ("POST", "/api/datasets/{name}/commit/main", 0),
    "card commit": ("POST", "/api/datasets/{name}/commit/main", 1),
}
COMMITS = ["initial commit", "Upload protected images (default, train)", "Describe the protection"]

pytestmark = [pytest.mark.usefixtures("hub"), pytest.mark.thorough]


@pytest.fixture(scope="module")
def out(small, protection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    small.save_to_disk(folder / "originals")
    return make_output(folder / "out", small, protection, str(folder / "originals"))


def fail(hub, step, action, name, **more):
    method, pattern, after = STEPS[step]
    return hub.fail(method, pattern.format(name=name), action, after=after, **more)


def messages(name):
    return [commit.message for commit in HUB.dataset(name).commits.values()]


@pytest.mark.parametrize("begin", [push, pull, verify])
def test_what_is_no_retry_is_refused(begin, tmp_path):
    with pytest.raises(RecipeError, match="got 3 as retry; expected a Retry, which says how many attempts"):
        begin(tmp_path / "out", "me/art", retry=3)


# The clients try the requests between info and commit again themselves, a second later: one kind of fault is enough.
ONCE = [
    *((step, action) for step in ("info", "create", "data commit", "card commit") for action in (503, 429)),
    *((step, action) for step in ("create", "data commit", "card commit") for action in ("before", "after")),
    *((step, action) for step in ("data commit", "card commit") for action in (409, 412)),
    ("header", 503),
    ("preupload", 503),
    ("lfs batch", 429),
    ("lfs upload", 503),
    ("lfs verify", 503),
]


@pytest.mark.parametrize(("step", "action"), ONCE)
def test_a_passing_fault_is_overcome(out, name, hub, step, action):
    fault = fail(hub, step, action, name)
    pushed = push(out, name, retry=QUICK)
    assert fault.hits > fault.after, "the fault did not happen"
    # Where the answer alone was lost, the repeat saw that everything was there and made no second commit.
    assert messages(name) == COMMITS
    assert pushed.commit == HUB.dataset(name).head.sha
    assert HUB.dataset(name).private


def test_every_wait_is_told(out, name, hub, caplog):
    fail(hub, "data commit", 503, name, headers={})
    fail(hub, "card commit", 429, name, headers={"Retry-After": "1"})
    push(out, name, retry=QUICK)
    told = [record.message for record in caplog.records if record.name.startswith("hf_unlearnable")]
    assert [line.split(" (")[0] for line in told] == [
        f"push to {name}: the Hub answered {status}" for status in (503, 429)
    ]
    assert told[0].endswith("Attempt 2 of 3 in 0 s.")
    assert told[1].endswith("Attempt 3 of 3 in 1 s.")  # as the Hub asked


@pytest.mark.parametrize(
    ("step", "action", "there"),
    [
        ("create", 503, "Nothing is there: the repository"),
        ("preupload", 403, "nothing of this push is visible"),
        ("lfs upload", 403, "nothing of this push is visible"),
        ("data commit", 503, "nothing of this push is visible"),
        ("card commit", 503, "has the data; the card is missing or old"),
        ("card commit", "before", "has the data; the card is missing or old"),
    ],
)
def test_a_lasting_fault_says_what_is_there_and_how_to_go_on(out, name, hub, step, action, there):
    fail(hub, step, action, name, times=100)
    with pytest.raises((HubError, AccessError)) as caught:
        push(out, name, title="Harbour", description="My pictures.", retry=QUICK)
    said = str(caught.value)
    assert there in said
    command = f"hf-unlearnable push {out} {name} --private --split train --title Harbour --description FILE"
    assert command in said
    repo = hub.repos.get(("datasets", name))
    assert repo is None or repo.private
    # Only LFS objects, which nobody can see, or the whole data.
    seen = [] if repo is None else messages(name)
    assert seen == COMMITS[: {"create": 0, "card commit": 2}.get(step, 1)]
    hub.forget()
    push(out, name, retry=QUICK)
    assert messages(name) == COMMITS


def test_a_pull_without_a_connection_asks_once_in_each_attempt(name, hub, tmp_path):
    asked = fail(hub, "info", "before", name, times=100)
    further = hub.fail("HEAD", name, "before", times=100)  # which datasets would do six times, with a line for each
    with pytest.raises(HubError, match=f"cannot pull {name}: .*Nothing was written; repeat the command"):
        pull(name, tmp_path / "there", retry=QUICK)
    assert (asked.hits, further.hits) == (3, 0)


@pytest.mark.parametrize("revision", [None, "draft"])
def test_a_lost_answer_is_not_taken_for_nothing(out, name, hub, revision):
    hub.fail("POST", f"{name}/commit/", "after")
    with pytest.raises(HubError, match="has a newer commit than before, perhaps of this push"):
        push(out, name, revision=revision, retry=Retry(1))
    push(out, name, revision=revision, retry=Retry(1))
    assert messages(name) == COMMITS


def test_an_upload_that_failed_is_not_sent_twice(out, name, hub):
    fail(hub, "data commit", 503, name, times=100)
    with pytest.raises(HubError):
        push(out, name, retry=Retry(1))
    hub.forget()
    push(out, name, retry=QUICK)
    parquet = HUB.dataset(name).head.files["data/train-00000-of-00001.parquet"]
    assert not [request for request in hub.received if request.method == "PUT" and request.body == parquet]


def test_a_server_that_goes_away(out, name, hub):
    for method in ("HEAD", "GET", "POST", "PUT"):
        hub.fail(method, ".", "before", times=1000)
    with pytest.raises(HubError, match="cannot be asked what is there now"):
        push(out, name, retry=QUICK)
    with pytest.raises(HubError, match="Nothing was written"):
        pull(name, out.parent / "pulled", retry=Retry(1))
    assert not (out.parent / "pulled").exists()


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_wrong", "does not accept the token"), (READ_TOKEN, "write access")],
)
def test_tokens_that_may_not(out, name, hub, token, message):
    with pytest.raises(AccessError, match=message) as caught:
        push(out, name, token=token, retry=QUICK)
    assert token not in str(caught.value)
    assert ("datasets", name) not in hub.repos
    hub.create("datasets", name, private=True)
    with pytest.raises(AccessError, match=message):
        push(out, name, token=token, retry=QUICK)
    assert messages(name) == COMMITS[:1]


def test_no_token_and_no_name(out, name, hub, monkeypatch):
    with pytest.raises(RecipeError, match="USER/NAME"):
        push(out, "art")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AccessError, match="there is no token"):
        push(out, name)
    assert hub.received == []


def test_no_network_as_a_user_sees_it(out, name, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr(sys, "argv", ["hf-unlearnable", "push", str(out), name, "--attempts", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert f"Error: cannot push to {name}" in said
    assert "the Hub cannot be asked what is there now" in said


@contextmanager
def little_room(size):
    """No file may grow beyond ``size`` bytes: to a program the same as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python does not notice that the bytecode of a module, first imported here, did not fit: all later imports fail.
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = before


def test_a_machine_that_is_not_on_the_internet_is_asked_about_it():
    with pytest.raises(httpx.ConnectError) as lost:
        httpx.get("http://no-such-hub.invalid", trust_env=False)
    assert describe(lost.value).startswith("no way to the Hub, whose address is not known here (")
    assert describe(lost.value).endswith("); is this machine on the internet?")


def test_a_full_disk(out, name, hub, tmp_path):
    with little_room(2000), pytest.raises(HubError, match="nothing of this push is visible in it"):
        push(out, name, retry=QUICK)
    assert messages(name) == COMMITS[:1]
    push(out, name, retry=QUICK)
    assert messages(name) == COMMITS
    with little_room(2000), pytest.raises((HubError, OSError)):
        pull(name, tmp_path / "pulled", retry=QUICK)
    assert list(tmp_path.iterdir()) == []
    assert len(pull(name, tmp_path / "pulled", retry=QUICK)) == 48


PATIENCE = 1.0
BOUND = PATIENCE + 8  # seconds: the longest that the clients sleep between two tries of their own


@pytest.mark.parametrize("step", STEPS)
def test_a_hub_that_accepts_and_does_not_answer_is_left_in_time(out, name, hub, step):
    fail(hub, step, "hang", name, times=1000)
    started = time.monotonic()
    with pytest.raises(HubError, match=r"no answer for \d s .*the limit is 1 s \(Retry\(patience=") as caught:
        push(out, name, retry=Retry(attempts=50, delay=0.01, patience=PATIENCE))
    assert time.monotonic() - started < BOUND
    assert f"hf-unlearnable push {out} {name}" in str(caught.value)
    hub.forget()
    push(out, name, retry=QUICK)
    assert messages(name) == COMMITS


@pytest.mark.parametrize("request_of", ["GET /api/datasets/", "HEAD .*/resolve/", "GET .*/resolve/"])
def test_a_pull_and_a_source_that_hang_are_left_in_time(out, name, hub, tmp_path, monkeypatch, request_of):
    push(out, name)
    method, pattern = request_of.split()
    hub.fail(method, pattern, "hang", times=1000)
    started = time.monotonic()
    with pytest.raises(HubError, match="Nothing was written"):
        pull(name, tmp_path / "pulled", retry=Retry(attempts=50, delay=0.01, patience=PATIENCE))
    assert time.monotonic() - started < BOUND
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Patience.__init__, "__defaults__", (PATIENCE,))
    with pytest.raises(SourceError):
        load_source(name)
    assert time.monotonic() - started < 2 * BOUND


def test_a_hub_that_says_to_wait_for_a_day_is_not_waited_for(out, name, hub):
    fail(hub, "preupload", 429, name, headers={"Retry-After": "86400"})
    with pytest.raises(HubError, match="no answer but to wait 86400 s"):
        push(out, name, retry=QUICK)


def test_patience_is_with_silence_and_not_with_work(out, name, hub):
    """Answers that are slow, one after the other for longer than the patience, are answers."""
    hub.commit_delay = 0.3
    pushed = push(out, name, retry=Retry(patience=2.0))
    assert pushed.commit == HUB.dataset(name).head.sha


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"patience": 0.0}, {"delay": -1.0}, {"patience": float("inf")}])
def test_a_retry_that_cannot_be(wrong):
    with pytest.raises(RecipeError, match=f"got {next(iter(wrong))}="):
        Retry(**wrong)


@pytest.mark.parametrize("what", [push, pull, verify])
def test_offline_is_said_at_once(out, name, hub, tmp_path, monkeypatch, what):
    push(out, name)
    hub.received.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, which forbids the network; unset it"):
        what(*((name, tmp_path / "pulled") if what is pull else (out, name)))
    assert hub.received == []


def test_a_file_that_is_not_what_the_repository_states(out, name, hub, tmp_path):
    push(out, name)
    fault = hub.fail("GET", "/resolve/.*parquet", "flip")
    assert len(pull(name, tmp_path / "pulled")) == 48  # fetched again
    assert fault.hits > 1
    push(out, f"{name}-other")
    hub.fail("GET", "/resolve/.*parquet", "flip", times=1000)
    with pytest.raises(DataError, match=r"the file data/train-.* is not the one that the repository states"):
        pull(f"{name}-other", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    hub.forget()
    assert verify(out, f"{name}-other").violations == 0  # the damaged one is not what it goes on with


def test_rows_that_the_description_does_not_know(out, name, tmp_path):
    push(out, name)
    repo = HUB.dataset(name)
    other = repo.head.files["README.md"].replace(b"num_examples: 48", b"num_examples: 47")
    repo.add("main", {**repo.head.files, "README.md": other}, "by hand")
    with pytest.raises(DataError, match=r"other rows .* than its description says"):
        pull(name, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_in_part_and_is_no_part_of_it(out, name, hub, tmp_path):
    push(out, name)
    hub.fail("GET", "/resolve/.*parquet", 416)
    assert len(pull(name, tmp_path / "pulled")) == 48


def test_a_conflict_without_an_address(out, name, hub):
    fail(hub, "create", 409, name, times=1000)
    with pytest.raises(HubError, match="there is something of this name, but not to this token"):
        push(out, name, retry=QUICK)
    fault = hub.fail("GET", f"/api/datasets/{name}$", 404, headers={"X-Error-Code": "RepoNotFound"})
    hub.create("datasets", name, private=True)  # somebody was faster
    push(out, name, retry=QUICK)
    assert fault.hits > 1


def test_a_repository_that_is_renamed_during_a_push(out, name, hub):
    """The Hub sends what asks for the old name to the new one; or nothing is there any more."""
    push(out, name)
    hub.repos["datasets", f"{name}-new"] = hub.repos.pop(("datasets", name))
    hub.repos["datasets", f"{name}-new"].name = f"{name}-new"
    hub.renamed[name] = f"{name}-new"
    with pytest.raises(HubError, match=f"it is called {name}-new now.*push .* {name}-new --private"):
        push(out, name, retry=QUICK)
    removed = f"{name}-removed"
    fault = fail(hub, "preupload", 404, removed, times=1000, headers={"X-Error-Code": "RepoNotFound"})
    with pytest.raises(HubError, match="was there when the push began and is not any more"):
        push(out, removed, retry=QUICK)
    assert fault.hits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"config": "a/b"}, "the config 'a/b'"),
        ({"config": "data"}, "the config 'data'"),
        ({"split": "train-1"}, "the split 'train-1'"),
        ({"max_shard_size": "many"}, "the shard size 'many'"),
        ({"max_shard_size": "0MB"}, "the shard size '0MB'"),
        ({"max_shard_size": -1}, "the shard size -1"),
        ({"revision": "a b"}, "the revision 'a b'"),
        ({"revision": "a..b"}, "the revision 'a..b'"),
    ],
)
def test_what_can_be_known_before_is_said_before(out, name, hub, wrong, message):
    with pytest.raises(RecipeError, match=message):
        push(out, name, **wrong)
    assert hub.received == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_description_that_cannot_be_read_is_said_before(out, name, hub, tmp_path, content):
    if content:
        (tmp_path / "about.md").write_bytes(content)
    result = CliRunner().invoke(app, ["push", str(out), name, "--description", str(tmp_path / "about.md")])
    assert result.exit_code
    assert "--description" in result.output + str(result.exception)
    assert hub.received == []


def test_offline_is_told_and_not_tried_again():
    tries = []

    def work():
        tries.append(1)
        raise ConnectionError("no") from OfflineModeIsEnabled("offline")

    with pytest.raises(ConnectionError) as caught:
        QUICK.run(work, "push")
    assert len(tries) == 1
    assert "HF_HUB_OFFLINE is set" in str(explain(caught.value, "push to me/art", ""))


@pytest.mark.parametrize("splits", [("train", "train"), ("train", "test")])
def test_two_pushes_at_once(out, name, hub, splits):
    hub.commit_delay = 0.2
    errors = []

    def work(split):
        try:
            push(out, name, split=split, retry=Retry(attempts=8, delay=0.1))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(split,)) for split in splits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert any("/commit/" in request.target for request in hub.received)
    hub.commit_delay = 0.0
    loaded = load_dataset(name)
    assert {split: len(rows) for split, rows in loaded.items()} == dict.fromkeys(splits, 48)
    text = HUB.dataset(name).head.files["README.md"].decode()
    assert all(text.count(f"begin split default/{split};") == 1 for split in splits)


def test_a_repository_that_somebody_else_makes_public_meanwhile(out, name, hub):
    """Created with private=True, yet there before, and public: the check comes after the creation, not before it."""
    fault = hub.fail("GET", f"/api/datasets/{name}$", 404, headers={"X-Error-Code": "RepoNotFound"})
    hub.create("datasets", name, private=False)
    with pytest.raises(PrivacyError, match="which is public"):
        push(out, name, retry=QUICK)
    assert fault.hits > 1
    assert messages(name) == COMMITS[:1]


def test_a_card_with_broken_marks_stops_before_anything_is_sent(out, name, hub):
    push(out, name)
    repo = HUB.dataset(name)
    broken = repo.head.files["README.md"].replace(b"<!-- hf-unlearnable: end about -->", b"")
    repo.add("main", {**repo.head.files, "README.md": broken}, "by hand")
    hub.received.clear()
    with pytest.raises(DataError, match="Repair README"):
        push(out, name, retry=QUICK)
    assert not [request for request in hub.received if request.method == "PUT" or "/commit/" in request.target]
