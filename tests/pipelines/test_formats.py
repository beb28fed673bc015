"""Reports are the same whether tables come from memory or from the files that they are kept in."""

import re

import pytest
import yaml
from support import copy_project, run


def keep_in_memory(project):
    """Keep every table in memory."""
    entries = {}
    for file in sorted((project / "conf/base").glob("catalog*.yml")):
        for name, entry in yaml.safe_load(file.read_text()).items():
            if entry["type"] == "brain_tumor.datasets.TableDataset":
                entries[name] = {"type": "MemoryDataset"}
    (project / "conf/test/catalog_memory.yml").write_text(yaml.safe_dump(entries))
    return entries


def read_texts(project):
    """What reports, cards and sheets say, but for the speed that was measured."""
    files = sorted(file for kind in ("*.html", "*.md") for file in (project / "data/08_reporting").rglob(kind))
    # Viewers show scans and masks, not tables.
    texts = {file.name: file.read_text() for file in files if file.parent.name != "viewers"}
    costs = r">What a network costs</h2>.*?<h2|<caption><span>Leaderboard.*?</table>"
    return {name: re.sub(costs, "", text, flags=re.DOTALL) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("pipeline", "written"),
    [
        ("segmentation", {"report.html", "model_card.md", "data_report.html", "data_sheet.md"}),
        ("classification", {"report.html", "model_card.md", "data_report.html", "data_sheet.md"}),
        ("survival", {"report.html", "model_card.md", "data_sheet.md"}),
    ],
)
def test_reports_are_the_same_from_memory_and_from_files(tmp_path, pipeline, written):
    project = copy_project(tmp_path)
    run(project, pipeline)
    from_files = read_texts(project)
    assert set(from_files) == written
    assert f"{pipeline}.splits" in keep_in_memory(project) or pipeline == "survival"
    run(project, pipeline)
    from_memory = read_texts(project)
    for name, text in from_files.items():
        assert from_memory[name].splitlines() == text.splitlines(), name
