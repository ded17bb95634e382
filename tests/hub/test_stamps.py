"""A folder as people have it, from disk to the Hub and back: Debian's stamps of Tux Paint."""

from __future__ import annotations

from collections import Counter

import pytest

from hf_unlearnable import DataError, DataWarning, SourceError, push, verify
from hf_unlearnable.data.debian import unpack_package
from hf_unlearnable.runs import intake, protect

PER_CLASS = 4  # images; every other file stays


@pytest.fixture
def stamps(tmp_path):
    try:
        unpack_package("tuxpaint-stamps-default", tmp_path)
    except SourceError as error:
        pytest.skip(str(error))
    folder = tmp_path / "usr" / "share" / "tuxpaint" / "stamps"
    seen = Counter()
    for file in sorted(folder.rglob("*.png")):
        seen[top := file.relative_to(folder).parts[0]] += 1
        if seen[top] > PER_CLASS:
            file.unlink()
    return folder


@pytest.mark.slow
def test_stamps_from_folder_to_hub_and_back(stamps, tmp_path, hub, name):
    files = [file for file in stamps.rglob("*") if file.is_file()]
    endings = Counter(file.suffix for file in files)
    found = intake(stamps, class_depth=1, progress=False)
    assert found.files == len(files) == found.images + len(found.left_out)
    assert found.images == endings[".png"]
    assert set(found.modes) >= {"RGBA", "LA", "P"}
    assert Counter(file.path[-4:] for file in found.left_out if file.picture) == {".svg": 248}
    with pytest.raises(DataError, match=r"files in .* that may be images"):
        protect(stamps, tmp_path / "out", method="texture", class_depth=1, progress=False)
    with pytest.warns(DataWarning, match="from P to RGB"):
        run = protect(stamps, tmp_path / "out", method="texture", class_depth=1, leave_out=True, progress=False)
    assert run.verification.violations == run.verification.unchanged == 0
    assert run.image_files == len(run.dataset)
    assert push(run, name).private
    assert verify(run, name) == run.verification
