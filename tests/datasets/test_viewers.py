import pytest
from kedro.io import DatasetError

from brain_tumor.datasets import ViewersDataset


def test_pages_are_written_one_by_one_and_linked_from_the_report(tmp_path):
    viewers = ViewersDataset(filepath=str(tmp_path / "viewers"), address="network/viewers")
    assert not viewers._exists()
    assert viewers.load() == {}
    seen = []

    def pages():
        for patient in ("b c", "a"):
            seen.append(sorted(path.name for path in tmp_path.glob("viewers/*.html")))
            yield patient, f"<p>{patient}</p>"

    viewers.save(pages())
    assert seen == [[], ["b c.html"]]
    assert viewers.load() == {"b c": "network/viewers/b%20c.html", "a": "network/viewers/a.html"}
    assert viewers.files()["b c"].read_text(encoding="utf-8") == "<p>b c</p>"
    assert viewers._exists()


def test_pages_of_an_earlier_run_are_deleted_and_those_of_others_stay(tmp_path):
    viewers = ViewersDataset(filepath=str(tmp_path), address=".")
    (tmp_path / "own.html").write_text("mine")
    viewers.save(iter([("a", "1"), ("b", "1")]))
    viewers.save(iter([("b", "2")]))
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["b.html", "own.html"]
    assert viewers.load() == {"b": "./b.html"}


def test_an_interrupted_run_leaves_what_the_next_one_deletes(tmp_path):
    viewers = ViewersDataset(filepath=str(tmp_path), address=".")

    def fail():
        yield "a", "1"
        raise ValueError("stopped")

    with pytest.raises(DatasetError, match="stopped"):
        viewers.save(fail())
    assert viewers.load() == {"a": "./a.html"}
    viewers.save(iter([]))
    assert list(tmp_path.glob("*.html")) == []
    assert viewers._exists()


def test_preview_lists_the_patients(tmp_path):
    viewers = ViewersDataset(filepath=str(tmp_path), address=".")
    with pytest.raises(DatasetError, match="holds no viewers"):
        viewers.preview()
    viewers.save(iter([("a", "x" * 2_000_000)]))
    assert viewers.preview()["data"] == [["a", "2.0"]]
