"""A digest of the code that a module runs: its own, and that of what it imports from its package."""

import ast
import hashlib
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

STARTED = time.time()
"""When this process began, or soon after. What was edited later may be loaded or not."""

DYNAMIC = {"import_module", "__import__"}
"""A module that calls one of these may import any module of its package."""


def digest_code(module: str, *, imports: bool = True) -> str:
    """Digest of the code of a module and of all that it imports from its own top-level package.

    Imports inside functions count; comments, docstrings and layout don't. Of a parent package that isn't imported from,
    only its own `__init__` counts. Where a module names a file of another kind that lies beside it, such as a template,
    all such files there are code too.

    Args:
        module: the name of an imported module.
        imports: whether what it imports counts.

    Raises:
        LookupError: if the source of the module isn't known, such as that of a notebook, or was edited since this
            process began.
    """
    modules = frozenset({module})
    reached = _reach(modules) if imports else modules
    edited = [name for name in reached if _find(name).stat().st_mtime > STARTED]
    if edited:
        raise LookupError(f"{', '.join(edited)} changed since this process began")
    return _digest(reached)


def digest_each(modules: Iterable[str], apart_from: Collection[str] = ()) -> dict[str, str]:
    """Digest of each module that some modules import, directly or not, of themselves and of their parent packages.

    Args:
        apart_from: modules and packages that don't count, nor what is imported through them alone.

    Raises:
        LookupError: if the source of a module isn't known.
    """
    reached = _reach(frozenset(modules), frozenset(apart_from))
    counted = (reached | _parents(reached)) - set(apart_from)
    return {name: _digest_tree(name, docstring=False) for name in sorted(counted)}


def _parents(modules: Iterable[str]) -> set[str]:
    """The packages that modules are in."""
    return {name.rsplit(".", depth)[0] for name in modules for depth in range(1, name.count(".") + 1)}


@cache
def _digest(reached: frozenset[str]) -> str:
    # a module docstring is what a program shows where some code reads it, such as the description of a network
    shown = any(_reads_docstrings(name) for name in reached)
    parents = _parents(reached)
    mark = hashlib.blake2b(digest_size=16)
    for name in sorted(reached | parents):
        mark.update(f"{name}: {_digest_tree(name, docstring=shown)}\n".encode())
    for file in sorted({file for name in reached for file in _templates(name)}):
        mark.update(file.name.encode() + hashlib.blake2b(file.read_bytes()).digest())
    return mark.hexdigest()


@cache
def _reach(modules: frozenset[str], apart_from: frozenset[str] = frozenset()) -> frozenset[str]:
    """The modules, and those that they import from their package, directly or not, except through some."""
    reached, todo = set(modules), list(modules)
    while todo:
        new = set(_imports(todo.pop())) - reached - apart_from
        reached |= new
        todo += new
    return frozenset(reached)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the same package that a module imports, inside functions too."""
    names = {name for node in ast.walk(_parse(module)) for name in _named(node, module)}
    return tuple(sorted(names))


def _named(node: ast.AST, module: str) -> Iterator[str]:
    package = module.split(".")[0]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package)
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, module)
        if base.split(".")[0] == package:
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if _is_module(inner) else base
    elif isinstance(node, ast.Call) and _called(node) in DYNAMIC:
        yield from _siblings(module)


def _base(node: ast.ImportFrom, module: str) -> str:
    """The module that is imported from; relative imports are resolved."""
    if not node.level:
        return node.module or ""
    up = node.level - (_find(module).name == "__init__.py")
    parts = [*module.split(".")[: len(module.split(".")) - up], *([node.module] if node.module else [])]
    return ".".join(parts)


def _called(node: ast.Call) -> str:
    return (
        node.func.id
        if isinstance(node.func, ast.Name)
        else node.func.attr
        if isinstance(node.func, ast.Attribute)
        else ""
    )


def _siblings(module: str) -> Iterator[str]:
    """Every module of the package that a module is in."""
    file = _find(module)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    if package:
        yield from (
            f"{package}.{sibling.stem}" for sibling in file.parent.glob("*.py") if sibling.name != "__init__.py"
        )


def _is_module(name: str) -> bool:
    try:
        _find(name)
    except LookupError:
        return False
    return True


@cache
def _find(module: str) -> Path:
    """The file of a module, found from that of its top-level package: nothing is imported."""
    top, *inner = module.split(".")
    source = getattr(sys.modules.get(top), "__file__", None)
    if source:
        parts = Path(source).parent.joinpath(*inner)
        found = [parts.with_suffix(".py"), parts / "__init__.py"] if inner else [Path(source)]
        for file in found:
            if file.is_file() and file.suffix == ".py":
                return file
    # A module that lies elsewhere, but is imported.
    elsewhere = getattr(sys.modules.get(module), "__file__", None)
    if elsewhere and Path(elsewhere).suffix == ".py":
        return Path(elsewhere)
    raise LookupError(f"the source of {module} isn't known")


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_find(module).read_bytes())


@cache
def _reads_docstrings(module: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "__doc__" for node in ast.walk(_parse(module)))


@cache
def _digest_tree(module: str, *, docstring: bool) -> str:
    """Digest of a module's syntax tree without the docstrings in it; with that of the module where it is shown."""
    tree = ast.parse(_find(module).read_bytes())
    said = ast.get_docstring(tree) if docstring else None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return hashlib.blake2b(f"{said}\n{ast.dump(tree)}".encode(), digest_size=16).hexdigest()


@cache
def _templates(module: str) -> tuple[Path, ...]:
    """Files of other kinds beside a module, if it names one of them; a template may include the others."""
    files = [file for file in _find(module).parent.iterdir() if file.suffix not in (".py", ".pyc") and file.is_file()]
    said = {node.value for node in ast.walk(_parse(module)) if isinstance(node, ast.Constant)}
    return tuple(files) if said & {file.name for file in files} else ()
