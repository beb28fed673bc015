import subprocess
import sys

import pytest
from support import ROOT

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")


def test_site_is_built_without_a_warning(tmp_path):
    # Not --quiet, with which --strict counts no warning.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "AttentionUNet" in (tmp_path / "reference/api/networks.html").read_text(encoding="utf-8")
    assert "segmentation.comparison" in (tmp_path / "reference/catalog.html").read_text(encoding="utf-8")
    assert "--executor" in (tmp_path / "reference/command_line.html").read_text(encoding="utf-8")
    elsewhere = [
        page.name
        for page in tmp_path.rglob("*.html")
        if '<script src="http' in page.read_text(encoding="utf-8")
        or "fonts.googleapis" in page.read_text(encoding="utf-8")
    ]
    assert elsewhere == []
