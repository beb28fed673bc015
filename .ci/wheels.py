"""Collect the wheels of requirements.lock for machines without a package index.

    make wheels PYTHON_VERSION=3.11 PLATFORM=manylinux_2_28_x86_64 TORCH=cuda

For another Python and platform than this one's: pip evaluates what a package needs on this system, so Linux for Linux,
macOS for macOS. Packages that publish no wheel are built here, and only taken if they hold no machine code.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
TORCH_ON_CPUS = "https://download.pytorch.org/whl/cpu"
BUILDING = ("pip", "setuptools>=77", "wheel")
"""What installs the project itself."""


def main() -> None:
    """Fill the folder and report its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="version of Python, such as 3.11")
    parser.add_argument("platform", help="platform tag of the oldest system, such as manylinux_2_28_x86_64")
    parser.add_argument("torch", choices=["cpu", "cuda", "none"], help="build of torch; none leaves it out")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    target = ["--dest", str(arguments.folder), "--python-version", arguments.python, "--implementation", "cp"]
    for tag in platform_tags(arguments.platform):
        target += ["--platform", tag]
    pins = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line and line[0] != "#"]
    (torch,) = (pin for pin in pins if pin.startswith("torch=="))
    for pin in download_all([pin for pin in pins if pin != torch], target):
        build(pin, arguments.folder)
    wanted = [[name, "--no-deps"] for name in BUILDING]
    if arguments.torch == "cpu":
        wanted.append([torch, "--no-deps", "--index-url", TORCH_ON_CPUS])
    if arguments.torch == "cuda":
        # With CUDA's libraries, which the lock doesn't name.
        wanted.append([torch, "--constraint", str(LOCK)])
    for what in wanted:
        if words := download(what, target):
            sys.exit(words)
    wheels = list(arguments.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size / 1e6:,.0f} MB, in {arguments.folder}")


def platform_tags(newest: str) -> list[str]:
    """The tag, and those of older systems, whose wheels run there too: pip doesn't add them.

    >>> platform_tags("manylinux_2_6_x86_64")[:3]
    ['manylinux_2_6_x86_64', 'manylinux_2_5_x86_64', 'manylinux2014_x86_64']
    """
    glibc = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", newest)
    if glibc is None:
        return [newest]
    minor, machine = int(glibc[1]), glibc[2]
    tags = [f"manylinux_2_{older}_{machine}" for older in range(minor, 4, -1)]
    return tags + [f"manylinux{name}_{machine}" for name in ("2014", "2010", "1")]


def download_all(pins: list[str], target: list[str]) -> list[str]:
    """Download all that have a wheel; the others are returned."""
    without: list[str] = []
    while True:
        words = download(["--no-deps", *(pin for pin in pins if pin not in without)], target)
        if not words:
            return without
        # pip stops at the first one.
        missing = re.search(r"No matching distribution found for (\S+)", words)
        if missing is None or missing[1] not in pins:
            sys.exit(words)
        without.append(missing[1])


def download(what: list[str], target: list[str]) -> str:
    """What pip has to complain of; nothing if all is there."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", *target, *what]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    return result.stderr if result.returncode else ""


def build(pin: str, folder: Path) -> None:
    """Build a wheel from the source archive; one with machine code would run on this machine's like only."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), pin]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{pin} has no wheel for this platform and can't be built here")
    name = re.sub(r"[-_.]+", "[-_.]", pin.split("==")[0])
    (wheel,) = (path for path in folder.glob("*.whl") if re.match(f"{name}-", path.name, re.IGNORECASE))
    if not wheel.name.endswith("-none-any.whl"):
        wheel.unlink()
        sys.exit(f"{pin} has no wheel for this platform, and the one built here is for this machine only: {wheel.name}")


if __name__ == "__main__":
    main()
