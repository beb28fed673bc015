import sys

import pytest
import yaml
from anywhere import PLACES, NotHereError, Outcome, Place, count, find_python, main, play, tell
from support import ROOT

REPORT = '<testsuites><testsuite tests="9" failures="{}" errors="1" skipped="2"/></testsuites>'


def test_the_weekly_workflow_plays_every_place_once():
    workflow = yaml.safe_load((ROOT / ".github/workflows/anywhere.yml").read_text(encoding="utf-8"))
    played = " ".join(workflow["jobs"]["places"]["strategy"]["matrix"]["places"]).split()
    assert sorted(played) == sorted(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_what_a_place_runs_is_there(name):
    assert all((ROOT / path).exists() for path in PLACES[name].tests)


def test_outcome_is_what_pytest_reports(tmp_path):
    report = tmp_path / "report.xml"
    assert count(report, 4, 1.0) == Outcome(failed=1, seconds=1.0, remark="pytest ended with 4 and no report")
    report.write_text(REPORT.format(3), encoding="utf-8")
    assert count(report, 1, 1.0) == Outcome(passed=3, failed=4, skipped=2, seconds=1.0)


def test_a_place_that_is_not_here_is_skipped_with_the_reason():
    def refuse(folder):
        raise NotHereError("the processor has no AVX-512")

    outcome = play(Place((), prepare=refuse))
    assert tell({"avx512": outcome}).splitlines()[1].split(maxsplit=5) == [
        "avx512",
        "0",
        "0",
        "0",
        "0",
        "not here: the processor has no AVX-512",
    ]
    with pytest.raises(NotHereError, match="there is no Python 2\\.5"):
        find_python("2.5")


def test_a_place_that_nobody_knows_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anywhere.py", "moon"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no place 'moon'; places are here, avx512" in capsys.readouterr().err


def test_a_place_sets_its_environment_and_a_failure_counts(tmp_path):
    test = tmp_path / "test_place.py"
    lines = [
        "import os",
        "def test_told(): assert os.environ['WHERE'] == 'there' and 'HOME' not in os.environ",
        "def test_wrong(): assert False",
    ]
    test.write_text("\n".join(lines), encoding="utf-8")
    outcome = play(Place((str(test),), {"WHERE": "there", "HOME": ""}, options=("-c", str(ROOT / "pyproject.toml"))))
    assert (outcome.passed, outcome.failed) == (1, 1)
