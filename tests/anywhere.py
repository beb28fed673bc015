"""The tests in places that one machine can play: lesser processors, few cores, other locales, users, Pythons.

    make test-anywhere                           # all of them, an hour and more on two cores
    make test-anywhere PLACES="one-core latin-1"

A place that can't be played here is skipped, with the reason. Exits 1 if a test failed anywhere.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TypeAlias
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-anywhere"
NUMBERS = (
    "tests/training",
    "tests/networks",
    "tests/metrics",
    "tests/survival",
    "tests/data/scans/test_preparation.py",
)
FILES = (
    "tests/data",
    "tests/datasets",
    "tests/figures",
    "tests/test_text.py",
    "tests/pipelines/test_data_segmentation.py",
)
SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadscope")
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
Setting: TypeAlias = dict[str, str]


class NotHereError(Exception):
    """This machine can't play the place; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where tests run.

    Attributes:
        environment: variables that are set; an empty value unsets one.
        wrapper: command that starts the place's Python.
        prepare: looks whether this machine can play the place, makes what it needs in a temporary folder,
            gives more variables.
        python: the interpreter, found or made.
    """

    tests: tuple[str, ...]
    environment: Setting = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    options: tuple[str, ...] = SIDE_BY_SIDE
    prepare: Callable[[Path], Setting] = lambda folder: {}
    python: Callable[[], str] = lambda: sys.executable


@dataclass(frozen=True)
class Outcome:
    """What a place came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remark: str = ""


def need_avx512(folder: Path) -> Setting:
    """Without it the limit is none."""
    if "AVX512" not in ask(sys.executable, "import torch; print(torch.backends.cpu.get_cpu_capability())"):
        raise NotHereError("the processor has no AVX-512")
    return {}


def need_taskset(folder: Path) -> Setting:
    """Which takes all cores but one away."""
    if not shutil.which("taskset"):
        raise NotHereError("there is no `taskset`")
    return {}


def make_latin(folder: Path) -> Setting:
    """A locale whose text isn't UTF-8, with the name of a real one."""
    name = "de_DE.ISO-8859-1"
    if not shutil.which("localedef"):
        raise NotHereError("there is no `localedef`")
    succeeds(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / name)])
    environment = {"LOCPATH": str(folder), "LC_ALL": name}
    if ask(sys.executable, "import locale; print(locale.getpreferredencoding(False))", environment) != "ISO-8859-1":
        raise NotHereError("the system has no sources of locales (Debian's package `locales`)")
    return environment


def leave_root(folder: Path) -> Setting:
    """Nobody may do what root may; files stay the user's own."""
    if os.getuid() == 0 and not succeeds([*NOBODY, "true"]):
        raise NotHereError("this user is root and may make no user namespace")
    return {}


def make_odd_folder(folder: Path) -> Setting:
    """A space and an umlaut on the way to every temporary file."""
    odd = folder / "Ablage für alles"
    odd.mkdir()
    return {"TMPDIR": str(odd)}


def find_home(folder: Path) -> Setting:
    """Not even root writes here."""
    if not Path("/sys").is_dir():
        raise NotHereError("there is no /sys, which nobody can write to")
    return {"HOME": "/sys"}


def make_python(version: str) -> str:
    """The interpreter of an environment of its own, made the first time."""
    folder = ENVIRONMENTS / version
    python = str(folder / "bin" / "python")
    if (folder / "installed").exists():
        return python
    found = find_python(version)
    install = [python, "-m", "pip", "install", "--quiet"]
    # What PyPI has for Linux is a CUDA build of several GB.
    source = ["--index-url", CPU_BUILDS] if sys.platform == "linux" else []
    steps = {
        "no environment can be made": [found, "-m", "venv", "--clear", str(folder)],
        f"no CPU build of torch is to be had ({CPU_BUILDS})": [*install, "torch", *source],
        "the project can't be installed": [*install, "--editable", f"{ROOT}[dev,docs]"],
    }
    for failure, command in steps.items():
        if not succeeds(command):
            raise NotHereError(failure)
    (folder / "installed").touch()
    return python


def find_python(version: str) -> str:
    """An interpreter that runs: pyenv puts names on the path whose versions aren't chosen."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(pyenv.glob(f"versions/{version}*/bin/python"), reverse=True)
    for python in (shutil.which(f"python{version}"), *of_pyenv):
        if python and ask(str(python), "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            return str(python)
    raise NotHereError(f"there is no Python {version}")


def ask(python: str, program: str, environment: Setting | None = None) -> str:
    """What a line of Python prints; nothing if it fails."""
    variables = os.environ | (environment or {})
    asked = subprocess.run([python, "-c", program], env=variables, check=False, capture_output=True, text=True)
    return asked.stdout.strip()


def succeeds(command: list[str]) -> bool:
    """Whether a command ends well; what it prints is passed over."""
    return not subprocess.run(command, check=False, capture_output=True).returncode


NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
PLACES = {
    "here": Place(NUMBERS),
    "avx512": Place(NUMBERS, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, prepare=need_avx512),
    "avx2": Place(NUMBERS, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
    "sse41": Place(NUMBERS, {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}),
    "one-core": Place(NUMBERS, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, ("taskset", "-c", "0"), (), need_taskset),
    # Where there are fewer cores, threads that wait actively take them from those that work.
    "four-threads": Place(NUMBERS, {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"}, options=()),
    "c-locale": Place(FILES, {"LC_ALL": "C"}),
    "latin-1": Place(FILES, prepare=make_latin),
    "no-root": Place(FILES, wrapper=NOBODY if os.getuid() == 0 else (), prepare=leave_root),
    "no-home": Place(FILES, {"XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}, prepare=find_home),
    "odd-tmpdir": Place(FILES, prepare=make_odd_folder),
    "python3.12": Place((*NUMBERS, *FILES), python=lambda: make_python("3.12")),
    "python3.13": Place((*NUMBERS, *FILES), python=lambda: make_python("3.13")),
}


def play(place: Place) -> Outcome:
    """Run the place's tests, which say on the terminal how they fare."""
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="anywhere_") as name:
        folder = Path(name)
        try:
            environment = place.environment | place.prepare(folder)
            python = place.python()
        except NotHereError as reason:
            return Outcome(remark=f"not here: {reason}")
        report = folder / "report.xml"
        settings = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT / "src"), "TMPDIR": name}
        variables = {key: value for key, value in (os.environ | settings | environment).items() if value}
        pytest = ["pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [*place.wrapper, python, "-m", *pytest, *place.options, *place.tests]
        code = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
        return count(report, code, perf_counter() - start)


def count(report: Path, code: int, seconds: float) -> Outcome:
    """What a report of pytest's adds up to; a run that left none has failed."""
    if not report.is_file():
        return Outcome(failed=1, seconds=seconds, remark=f"pytest ended with {code} and no report")
    (suite,) = ElementTree.parse(report).getroot()
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if code and not failed:
        return Outcome(tests - skipped, 1, skipped, seconds, f"pytest ended with {code}")
    return Outcome(tests - failed - skipped, failed, skipped, seconds)


def tell(outcomes: dict[str, Outcome]) -> str:
    """The table of places."""
    lines = [f"{'place':14}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for name, outcome in outcomes.items():
        numbers = f"{outcome.passed:8}{outcome.failed:8}{outcome.skipped:9}{outcome.seconds:9.0f}"
        lines.append(f"{name:14}{numbers}  {outcome.remark}".rstrip())
    return "\n".join(lines)


def main() -> int:
    """Play the places that are asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="PLACE", help=f"of {', '.join(PLACES)}; all without one")
    asked = parser.parse_args().places or list(PLACES)
    if unknown := [name for name in asked if name not in PLACES]:
        parser.error(f"there is no place '{unknown[0]}'; places are {', '.join(PLACES)}")
    outcomes: dict[str, Outcome] = {}
    for name in asked:
        print(f"\n== {name}", flush=True)
        outcomes[name] = play(PLACES[name])
        print(tell({name: outcomes[name]}), flush=True)
    print(f"\n{tell(outcomes)}")
    return int(any(outcome.failed for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
