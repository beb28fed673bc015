"""Text is UTF-8 whatever the locale: Python takes the locale's encoding unless it is told."""

import ast
import locale
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support import ROOT

from brain_tumor.datasets import ReportDataset, TableDataset

FILES = sorted((ROOT / "src").rglob("*.py"))


def guesses(source: str) -> list[int]:
    """Lines that read or write text without an encoding."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and _is_text(call) and not _tells(call)
    ]


def _is_text(call: ast.Call) -> bool:
    """`read_text`, `write_text`, or an `open` whose mode isn't binary.

    Libraries' own `open` gets a file or a member of an archive.
    """
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text"):
        return True
    given = call.args[1:] if isinstance(call.func, ast.Name) else call.args
    mode = next(
        (keyword.value for keyword in call.keywords if keyword.arg == "mode"), given[0] if given else ast.Constant("r")
    )
    return name in ("open", "fdopen") and isinstance(mode, ast.Constant) and "b" not in str(mode.value)


def _tells(call: ast.Call) -> bool:
    return "encoding" in [keyword.arg for keyword in call.keywords]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_text_has_an_encoding(path: Path):
    assert guesses(path.read_text(encoding="utf-8")) == []


def test_guesses_are_found():
    source = "\n".join(
        [
            "path.read_text()",
            "path.write_text(text)",
            "path.open()",
            'path.open("a")',
            "open(path)",
            'open(path, "w")',
            'path.open("rb")',
            'open(path, "wb")',
            'path.read_text(encoding="utf-8")',
            'path.open("a", encoding="utf-8")',
            "Image.open(path)",
            "archive.open(member)",
        ]
    )
    assert guesses(source) == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def in_ascii():
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def test_tables_and_reports_are_utf8(tmp_path, in_ascii):
    table, report = TableDataset(filepath=str(tmp_path / "a.csv")), ReportDataset(filepath=str(tmp_path / "a.md"))
    table.save(pd.DataFrame({"patient": ["Müller 王"]}))
    report.save("5–7 ml")
    assert "Müller 王" in (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert table.load()["patient"].tolist() == ["Müller 王"]
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == report.load() == "5–7 ml"


def test_no_entry_of_the_catalog_is_written_in_the_encoding_of_the_locale():
    """Kedro's own formats of text are."""
    catalogs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "conf").rglob("catalog*.yml")]
    kinds = {entry["type"] for catalog in catalogs for entry in catalog.values() if "type" in entry}
    assert {kind for kind in kinds if not kind.startswith("brain_tumor.")} == set()
