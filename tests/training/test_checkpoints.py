"""A fit that is killed goes on where it was, and ends with the bytes of one that was not."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from helpers.datasets import make_dataset
from helpers.methods import QUICK, methods, quick
from transformers import ViTConfig, ViTForImageClassification

from hf_unlearnable import BEO, EM, MIUE, Auto, Budget, CheckpointError, DataError, Method, OutputError, Surrogate
from hf_unlearnable.methods.alternating import shared_schedule
from hf_unlearnable.modeling import SmallResNetConfig, SmallResNetForImageClassification
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.checkpoints import DESCRIPTION, Checkpoints

DATA = make_dataset(30)
COLOURS = make_dataset(30, channels=3)


class Killed(BaseException):
    """What no code catches, as it does not catch a kill."""


def store_of(protection) -> bytes:
    return (protection.folder / "perturbations.arrow").read_bytes()


def kill_at(monkeypatch, number: int) -> None:
    """Let a checkpoint be written at every step, and the process end after a number of them."""
    tick, seen = Checkpoints.tick, []

    def counted(self):
        tick(self)
        seen.append(None)
        if len(seen) == number:
            raise Killed

    monkeypatch.setattr(Checkpoints, "tick", counted)


def fit_and_kill(method: Method, folder, monkeypatch, number: int, **options) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            fit(method, folder, **options)


def fit(method: Method, folder, data=DATA, **options):
    options = {"checkpoint_every": 0, "progress": False, **options}
    return method.fit(data, checkpoint_dir=folder, **options)


VARIANTS = {
    "shared": MIUE(epochs=3, guides=2, guide_epochs=1, guide_accuracy=0, batch_size=8),
    "variants": MIUE(epochs=3, variants=2, targeted_weight=0, batch_size=8),
    "paper": MIUE.paper(epochs=2, inner_steps=2, batch_size=8, perturbation_batch_size=8),
    "em": EM(epochs=2, batch_size=8, pattern_share=0),
    "reference": BEO(steps=2, epochs=1, batch_size=8),
    "continue": BEO(mode="self", steps=2, epochs=1, batch_size=8),
    "retrain": BEO.paper(steps=3, epochs=1, refresh_epochs=1, batch_size=8),
    "auto": Auto(epochs=2, thief_steps=1),
}
QUICK_MIUE = "mi-ue:batch_size=8,guides=1,guide_epochs=1,guide_accuracy"


@pytest.fixture
def candidates(monkeypatch):
    """Those of ``Auto`` in small: a closed form, a recipe whose guides are used, and the same without any."""
    names = ("texture", f"{QUICK_MIUE}=0", f"{QUICK_MIUE}=0,targeted_weight=0")
    monkeypatch.setattr(Auto, "candidates", names)
    return names


@pytest.mark.parametrize("name", VARIANTS)
def test_a_killed_fit_goes_on_to_the_same_bytes(name, candidates, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_schedule, "LEAST", 2)
    method, data = VARIANTS[name], COLOURS if name == "variants" else DATA
    undisturbed = fit(method, None, data)
    for number in (1, 3, 2):  # each process gets that much further than the one before
        fit_and_kill(method, tmp_path / "kept", monkeypatch, number, data=data)
    again = fit(method, tmp_path / "kept", data)
    assert store_of(again) == store_of(undisturbed)
    assert again.digest == undisturbed.digest  # what was found out about it too


@pytest.mark.parametrize("best", [1, 2], ids=["the guided", "the last"])
def test_choosing_goes_on_to_the_same_bytes_from_any_candidate_or_thief(best, candidates, tmp_path, monkeypatch):
    """Killed after every second step: in each candidate, in each of its thieves, and between them."""
    judge = Auto._judge

    def judged(self, task, name):
        figures = judge(self, task, name)
        return {thief: share + (candidates.index(name) != best) for thief, share in figures.items()}

    monkeypatch.setattr(Auto, "_judge", judged)
    undisturbed = fit(VARIANTS["auto"], None)
    assert undisturbed.about["findings"]["auto"]["chosen"] == candidates[best]
    kills, again = 0, None
    while again is None:
        with monkeypatch.context() as patch:
            kill_at(patch, 2)
            with suppress(Killed):
                again = fit(VARIANTS["auto"], tmp_path / "kept")
        kills += again is None
    assert kills > len(candidates) * len(undisturbed.about["findings"]["auto"]["thieves"][candidates[0]])
    assert store_of(again) == store_of(undisturbed)
    assert again.digest == undisturbed.digest


@pytest.mark.filterwarnings("ignore:The models that the change", "ignore:The change is mostly")
@pytest.mark.parametrize("common", [0.0, 2.0], ids=["from one start", "from two"])
def test_a_fit_until_it_is_learned_goes_on_to_the_same_bytes(tmp_path, monkeypatch, common):
    """Wherever in the windows of its losses it was killed, and after it had learned."""
    monkeypatch.setattr(shared_schedule, "COMMON", common)
    monkeypatch.setattr(shared_schedule, "MOST_STEPS", 12)
    monkeypatch.setattr(shared_schedule, "WINDOW", 6)
    monkeypatch.setattr(shared_schedule, "LEARNED", 10.0)
    method = EM(batch_size=8)
    undisturbed = fit(method, None, COLOURS)
    assert undisturbed.about["findings"]["settings"]["epochs"] == 2  # 6 steps of 12, in passes of 4
    for number in (1, 2, 3, *((4,) if common else ())):
        fit_and_kill(method, tmp_path / "kept", monkeypatch, number, data=COLOURS)
    again = fit(method, tmp_path / "kept", COLOURS)
    assert store_of(again) == store_of(undisturbed)
    assert again.digest == undisturbed.digest


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_fit_goes_on_with_the_threads_that_it_began_with(tmp_path, monkeypatch, threads, caplog):
    """The bytes depend on their number, so that another one would make a mixture that nobody can make again."""
    data, method = make_dataset(40, channels=3, side=32), EM(epochs=2, batch_size=20)

    def run(folder):
        return method.fit(data, checkpoint_dir=folder, checkpoint_every=0, progress=False)

    threads(2)
    undisturbed = run(None)
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            run(tmp_path)
    threads(1)
    assert store_of(run(tmp_path)) == store_of(undisturbed)
    assert "goes on with 2 threads, as it began, and not with the 1 of this process" in caplog.text
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("written", [None, 0, 10**9, "2"])
def test_a_number_of_threads_that_cannot_be_is_damage(tmp_path, monkeypatch, written):
    fit_and_kill(VARIANTS["em"], tmp_path, monkeypatch, 2)
    file = tmp_path / DESCRIPTION
    content = json.loads(file.read_text())
    assert content.pop("threads") == torch.get_num_threads()
    file.write_text(json.dumps(content if written is None else {**content, "threads": written}))
    if written is None:  # by a version that wrote none
        fit(VARIANTS["em"], tmp_path)
        return
    with pytest.raises(CheckpointError, match=r"damaged .*threads"):
        fit(VARIANTS["em"], tmp_path)


def test_dropout_goes_on_with_its_draws(tmp_path, monkeypatch):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(image_size=12, patch_size=4, num_channels=1, num_labels=3, hidden_dropout_prob=0.5, **sizes)
    method, surrogate = VARIANTS["em"], ViTForImageClassification(config)
    undisturbed = fit(method, None, surrogate=surrogate)
    torch.manual_seed(5)  # the user's own draws have no part in it
    fit_and_kill(method, tmp_path, monkeypatch, 3, surrogate=surrogate)
    assert store_of(fit(method, tmp_path, surrogate=surrogate)) == store_of(undisturbed)


@methods
def test_every_method_goes_on(method, tmp_path, monkeypatch):
    """The contract: whatever a method keeps, killed in its last third it comes to the same end."""
    ticks = []
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "tick", lambda self: ticks.append(None))
        undisturbed = fit(quick(method), None)
    fit_and_kill(quick(method), tmp_path, monkeypatch, max(1, len(ticks) * 2 // 3))
    assert store_of(fit(quick(method), tmp_path)) == store_of(undisturbed)


def test_steps_are_not_done_again(tmp_path, monkeypatch):
    seen = []
    step = Budget.direction
    monkeypatch.setattr(Budget, "direction", lambda self, gradient: seen.append(None) or step(self, gradient))
    fit(VARIANTS["em"], None)
    whole = len(seen)
    seen.clear()
    fit_and_kill(VARIANTS["em"], tmp_path, monkeypatch, 2)
    fit(VARIANTS["em"], tmp_path)
    assert len(seen) == whole


def test_a_finished_fit_is_opened_again(tmp_path, monkeypatch):
    first = fit(EM(**QUICK_EM), tmp_path / "kept", output_dir=tmp_path / "out")
    assert [file.name for file in (tmp_path / "kept").iterdir()] == [DESCRIPTION]
    monkeypatch.setattr(EM, "run", None)
    again = fit(EM(**QUICK_EM), tmp_path / "kept", output_dir=tmp_path / "out")
    assert again.digest == first.digest
    with pytest.raises(OutputError):
        fit(EM(**QUICK_EM), None, output_dir=tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    said = "came to its end, and its result is not there.* Name the output that it was written to, or remove the folder"
    for output in ("out", "other"):
        with pytest.raises(CheckpointError, match=said):
            fit(EM(**QUICK_EM), tmp_path / "kept", output_dir=tmp_path / output)


def test_checkpoints_are_of_one_fit_at_a_time(tmp_path, monkeypatch):
    """What the first one works on is left alone by a second one, which is refused at once."""
    monkeypatch.setattr(Checkpoints, "tick", lambda self: again())

    def again():
        with pytest.raises(OutputError, match=r"another process is at work in '.*kept'"):
            fit(EM(**QUICK_EM), tmp_path / "kept", output_dir=tmp_path / "other")

    assert fit(EM(**QUICK_EM), tmp_path / "kept", output_dir=tmp_path / "out").digest
    with pytest.raises(DataError):
        fit(EM(**QUICK_EM), tmp_path / "new", data=DATA.select_columns("name"))
    assert not (tmp_path / "new").exists()


QUICK_EM = {name: value for name, value in QUICK.items() if name in ("epochs", "batch_size")}


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """The checkpoints of a fit that did not come to its end."""
    fit_and_kill(EM(**QUICK_EM), tmp_path / "kept", monkeypatch, 2)
    return tmp_path / "kept"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (EM(**QUICK_EM, seed=3), {}, ": seed was 0 and is 3"),
        (MIUE(**QUICK_EM), {}, ": method was 'em' and is 'mi-ue'\\. Undo that"),
        (EM(**QUICK_EM), {"budget": Budget(4)}, "budget was 'linf:8' and is 'linf:4'"),
        (EM(**QUICK_EM), {"on_unseen": "craft"}, "on_unseen was 'error' and is 'craft'"),
        (EM(**QUICK_EM), {"surrogate": "small-vgg"}, ": surrogate was"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(killed, method, options, message):
    with pytest.raises(CheckpointError, match=message):
        fit(method, killed, **options)
    fit(EM(**QUICK_EM), killed)  # it is still there


@pytest.mark.parametrize(("kept", "digests"), [(False, 0), (True, 1)])
def test_foreign_weights_are_read_for_their_digest_only_where_something_is_kept(tmp_path, monkeypatch, kept, digests):
    read = []
    monkeypatch.setattr(Network, "feed", lambda self, hashed: read.append(self))
    surrogate = SmallResNetForImageClassification(SmallResNetConfig(num_channels=1, num_labels=3))
    fit(quick("em"), tmp_path / "kept" if kept else None, surrogate=surrogate)
    assert len(read) == digests


def test_a_checkpoint_of_a_surrogate_with_other_weights_is_refused(tmp_path, monkeypatch):
    method, networks = VARIANTS["em"], [Surrogate("small-resnet").build(3, 1, seed).model for seed in (0, 1)]
    fit_and_kill(method, tmp_path, monkeypatch, 2, surrogate=networks[0])
    with pytest.raises(CheckpointError, match="surrogate weights was"):
        fit(method, tmp_path, surrogate=networks[1])


def test_a_checkpoint_of_other_data_or_versions_is_refused(killed):
    with pytest.raises(CheckpointError, match="the images or their labels are not those that it began with"):
        EM(**QUICK_EM).fit(DATA.shuffle(seed=1), checkpoint_dir=killed, progress=False)
    described = json.loads((killed / DESCRIPTION).read_text())
    unlike = copy.deepcopy(described)
    del unlike["identity"]["method"]["from_waves"]  # as a version has it that lacks this setting, whose default is None
    (killed / DESCRIPTION).write_text(json.dumps(unlike))
    with pytest.raises(CheckpointError, match="from_waves was not there and is None"):
        fit(EM(**QUICK_EM), killed)
    described["identity"]["versions"]["torch"] = "1.0"
    (killed / DESCRIPTION).write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"versions torch was '1.0' and is"):
        fit(EM(**QUICK_EM), killed)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "description", "entries", "list"])
def test_a_damaged_checkpoint_is_refused(killed, harm):
    (file,) = killed.glob("*-of-process-0")
    if harm == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif harm == "cut":
        os.truncate(file, 1000)
    elif harm == "remove":
        file.unlink()
    else:
        (killed / DESCRIPTION).write_text({"description": "{", "entries": '{"number": 1}', "list": "[]"}[harm])
    with pytest.raises(CheckpointError, match="damaged"):
        fit(EM(**QUICK_EM), killed)


def test_a_damaged_description_is_refused_by_an_optimised_python_too(tmp_path):
    (tmp_path / DESCRIPTION).write_text('{"number": 1, "digests": []}')
    code = """
import sys
from pathlib import Path
import numpy as np
from hf_unlearnable.errors import CheckpointError
from hf_unlearnable.training.checkpoints import Checkpoints
from hf_unlearnable.training.processes import Shard, default_accelerator
try:
    Checkpoints(Path(sys.argv[1]), {}, Shard(default_accelerator(), np.arange(4) % 2), 0)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-O", "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "checkpoint.json without identity" in done.stdout, done.stderr


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(killed, monkeypatch):
    before = sorted(file.name for file in killed.iterdir())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            fit(EM(**QUICK_EM), killed)
    assert sorted(file.name for file in killed.iterdir()) == before
    assert store_of(fit(EM(**QUICK_EM), killed)) == store_of(fit(EM(**QUICK_EM), None))


def test_perturbations_on_the_device_are_the_same(tmp_path, monkeypatch):
    method = VARIANTS["shared"]
    assert store_of(fit(method, None, cache="device")) == store_of(fit(method, None))
    fit_and_kill(method, tmp_path, monkeypatch, 12, cache="device")
    assert store_of(fit(method, tmp_path, cache="device")) == store_of(fit(method, None))
