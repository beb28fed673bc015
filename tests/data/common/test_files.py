import os
import sys
from pathlib import Path

import pytest

from brain_tumor.data.common.files import SIMULATED_MARK, file_state, is_simulated, list_files, list_folders


def test_linked_folders_are_entered_once_and_links_that_lead_nowhere_are_listed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "scan").touch()
    source = tmp_path / "source"
    source.mkdir()
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "twice").symlink_to(tmp_path / "elsewhere")
    (source / "around").symlink_to(source)
    (source / "nowhere").symlink_to(tmp_path / "gone")
    assert list_files(source) == [source / "linked/scan", source / "nowhere"]
    assert list_folders(source) == [source / "linked"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, caplog):
    (tmp_path / "open").touch()
    (tmp_path / "shut").mkdir()
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list_files(tmp_path) == [tmp_path / "open"]
    assert f"{tmp_path / 'shut'}: can't be listed (Permission denied)" in caplog.text


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="in this locale names of files are no UTF-8")
def test_a_name_that_no_table_can_hold_is_left_out(tmp_path, caplog):
    (tmp_path / "good").touch()
    Path(os.fsdecode(bytes(tmp_path) + b"/M\xfcller.png")).touch()
    assert list_files(tmp_path) == [tmp_path / "good"]
    assert "its name is not UTF-8; rename it" in caplog.text


def test_state_changes_when_a_file_becomes_readable(tmp_path):
    file = tmp_path / "scan"
    absent = file_state(file)
    file.touch()
    written = file_state(file)
    file.chmod(0o600)
    assert len({absent, written, file_state(file)}) == 3


def test_simulated_folders_are_found_at_any_depth(tmp_path):
    (tmp_path / "sample/Testing/glioma").mkdir(parents=True)
    (tmp_path / "sample/Testing/glioma/a.jpg").touch()
    assert not is_simulated(tmp_path)
    (tmp_path / "sample" / SIMULATED_MARK).touch()
    assert is_simulated(tmp_path)
    assert is_simulated(tmp_path / "sample/Testing")
    assert is_simulated(tmp_path / "sample/Testing/glioma/a.jpg")
