"""The wheels for machines without a package index: what pip is asked for. pip itself is not run."""

import subprocess
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from support import ROOT

LOCK = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if "==" in line]


@pytest.fixture
def wheels():
    spec = spec_from_file_location("wheels", ROOT / ".ci/wheels.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pip(wheels, monkeypatch, tmp_path):
    """An index that has no wheel of two packages of the lock; one of these has machine code."""
    asked = []

    def run(command, **_):
        asked.append(command)
        if "wheel" in command[3:4]:
            name, version = command[-1].split("==")
            tag = "cp311-cp311-linux_x86_64" if name == "h5py" else "py3-none-any"
            (tmp_path / f"{name.replace('-', '_')}-{version}-{tag}.whl").touch()
            return subprocess.CompletedProcess(command, 0)
        missing = [word for word in command if word.startswith(("antlr4", "h5py")) and word in run.without]
        words = f"ERROR: No matching distribution found for {missing[0]}" if missing else ""
        return subprocess.CompletedProcess(command, int(bool(missing)), stderr=words)

    run.without = [pin for pin in LOCK if pin.startswith("antlr4")]
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["wheels.py", "3.12", "manylinux_2_28_x86_64", "cuda", str(tmp_path)])
    return run, asked


def test_every_package_of_the_lock_is_asked_for(wheels, pip, capsys):
    _, asked = pip
    wheels.main()
    first, second, built, *others = asked
    pins = {line for line in LOCK if line[0] != "#"}
    assert {word for word in first if "==" in word} == pins - {"torch==2.13.0"}
    assert set(first) - set(second) == {"antlr4-python3-runtime==4.9.3"} == {built[-1]}
    assert first[first.index("--python-version") + 1] == "3.12"
    assert first[(k := first.index("manylinux_2_17_x86_64") - 1) : k + 2] == ["--platform", "manylinux_2_17_x86_64"]
    # With its dependencies, CUDA's libraries among them.
    assert "torch==2.13.0" in others[-1]
    assert "--no-deps" not in others[-1]
    assert capsys.readouterr().out.startswith("1 wheels, 0 MB")


def test_machine_code_of_this_machine_is_refused(wheels, pip):
    run, _ = pip
    run.without += [pin for pin in LOCK if pin.startswith("h5py")]
    with pytest.raises(SystemExit, match=r"h5py==\S+ has no wheel .* for this machine only: h5py-.*linux_x86_64"):
        wheels.main()


def test_another_failure_ends_with_the_words_of_pip(wheels, monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, stderr="ERROR: no network")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr("sys.argv", ["wheels.py", "3.11", "macosx_11_0_arm64", "none", str(tmp_path)])
    with pytest.raises(SystemExit, match="no network"):
        wheels.main()
    assert wheels.platform_tags("macosx_11_0_arm64") == ["macosx_11_0_arm64"]
