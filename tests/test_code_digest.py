import sys
import time

import pytest
from support import read_code_again

from brain_tumor import code_digest
from brain_tumor.code_digest import digest_code

PACKAGE = {
    "__init__.py": "",
    "top.py": (
        "from os import path\nfrom pack.middle import half\n\n\ndef run(x):\n    from . import late\n    "
        "return half(x) + late.add\n"
    ),
    "middle.py": "def half(x):\n    return x / 2\n",
    "late.py": "add = 1\n",
    "other.py": "unused = 1\n",
    "inner/__init__.py": "from pack import other\n",
    "inner/leaf.py": "value = 1\n",
    "named/__init__.py": (
        "from importlib import import_module\n\n\ndef get(name):\n    return import_module(f'pack.named.{name}')\n"
    ),
    "named/one.py": '"""One."""\n',
    "shown.py": "from pack.named import get\n\n\ndef describe(name):\n    return get(name).__doc__\n",
    "drawn.py": "def fill():\n    return 'page.jinja'\n",
    "page.jinja": "<p>",
    "part.js": "1",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package, as if written before this process began."""
    for name, text in PACKAGE.items():
        file = tmp_path / "pack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_digest, "STARTED", float("inf"))
    __import__("pack")
    yield tmp_path / "pack"
    for name in [name for name in sys.modules if name.split(".")[0] == "pack"]:
        del sys.modules[name]
    read_code_again()


def digest_after(package, module, file, text):
    """The digest of a module in a process that finds `text` in the file."""
    (package / file).write_text(text)
    read_code_again()
    return digest_code(module)


@pytest.mark.parametrize(
    ("module", "file", "text"),
    [
        ("pack.top", "top.py", PACKAGE["top.py"].replace("half(x) +", "half(x) -")),
        ("pack.top", "middle.py", PACKAGE["middle.py"].replace("2", "3")),
        ("pack.top", "late.py", "add = 2\n"),  # imported inside a function, and relative
        ("pack.top", "__init__.py", "x = 1\n"),
        ("pack.inner.leaf", "inner/__init__.py", "from pack import late\n"),
        ("pack.named", "named/one.py", "x = 1\n"),
        ("pack.shown", "named/one.py", '"""Another one."""\n'),  # docstrings that are shown
        ("pack.drawn", "page.jinja", "<p><b>"),
        ("pack.drawn", "part.js", "2"),
    ],
)
def test_digest_changes_with_the_code_that_runs(package, module, file, text):
    before = digest_code(module)
    assert digest_after(package, module, file, text) != before
    assert digest_after(package, module, file, PACKAGE[file]) == before


@pytest.mark.parametrize(
    ("module", "file", "text"),
    [
        ("pack.top", "middle.py", '"""Module."""\n# why\ndef half(x):\n    """Half."""\n    return (x\n        / 2)\n'),
        ("pack.top", "other.py", "unused = 2\n"),
        ("pack.top", "inner/__init__.py", "x = 1\n"),
        ("pack.inner.leaf", "other.py", "unused = 2\n"),  # imported by a parent package only
        ("pack.named", "named/one.py", '"""Another one."""\n'),
        ("pack.top", "page.jinja", "<p><b>"),
    ],
)
def test_digest_stays_with_comments_docstrings_layout_and_code_that_does_not_run(package, module, file, text):
    before = digest_code(module)
    assert digest_after(package, module, file, text) == before


def test_what_is_imported_may_be_left_aside(package):
    before = digest_code("pack.top", imports=False)
    (package / "middle.py").write_text("half = None\n")
    read_code_again()
    assert digest_code("pack.top", imports=False) == before


def test_code_that_is_not_known_or_was_edited_since_this_process_began_has_no_digest(package, monkeypatch):
    with pytest.raises(LookupError, match=r"the source of nowhere\.module isn't known"):
        digest_code("nowhere.module")
    monkeypatch.setattr(code_digest, "STARTED", time.time() - 3600)
    with pytest.raises(LookupError, match=r"pack\.middle.* changed since this process began"):
        digest_code("pack.top")


def test_networks_are_what_a_network_imports():
    """Of a network: what it is made of, and no other network."""
    reached = code_digest._reach(frozenset({"brain_tumor.networks.attention_unet"}))
    assert {"brain_tumor.networks.unet", "brain_tumor.networks.blocks"} <= reached
    assert not reached & {"brain_tumor.networks.vit", "brain_tumor.networks.residual_attention_unet"}
