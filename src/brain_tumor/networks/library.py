"""Networks of libraries and of the user's own packages, by the path of their class or as `timm:NAME`.

Looking at a path imports nothing; building a network imports its package.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from inspect import Parameter, signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

EXTRAS = {"torch": "", "monai": "", "timm": "timm", "segmentation_models_pytorch": "smp"}
"""Packages whose classes are used without being listed as trusted, and the extra that installs each."""

TIMM = "timm:"
"""Before the name of one of timm's models."""

STANDARD = {
    "in_channels": ("in_channels", "in_chans", "in_ch", "input_channels", "n_channels", "num_channels"),
    "out_channels": ("out_channels", "num_classes", "classes", "n_classes", "out_chans", "out_ch"),
    "image_size": ("image_size", "img_size"),
}
"""What the project calls a size, and what libraries call it."""

REFUSED = {"pretrained", "checkpoint_path", "encoder_weights", "pretrained_cfg", "pretrained_cfg_overlay"}
"""Arguments of libraries that read weights, in ways of their own."""


def is_library(name: str) -> bool:
    """Whether a network's name is a path of a class or one of timm's models, not one of the project's names."""
    return "." in name or ":" in name


def package_of(name: str) -> str:
    """The top-level package that a network's code is in."""
    return name.replace(":", ".").split(".")[0]


def is_outside(name: str, trusted: Sequence[str] = ()) -> bool:
    """Whether the code of a network is neither the project's, nor of a library in EXTRAS, nor trusted."""
    return is_library(name) and package_of(name) not in {*EXTRAS, *trusted}


def require_trusted(name: str, trusted: Sequence[str], where: str) -> None:
    """Refuse a network whose code is from outside, unless its package is trusted.

    Args:
        where: what names the network; for the message.

    Raises:
        ValueError: with the setting that trusts it.
    """
    if is_outside(name, trusted):
        package = package_of(name)
        raise ValueError(
            f"{where} is {name}: building it runs the code of {package}, which this project doesn't know; if you trust "
            f"that code, add it to the parameter trusted_packages: [{package}]"
        )


def require_installed(name: str) -> None:
    """Refuse a network whose package isn't installed.

    Raises:
        ImportError: with the command that installs it.
    """
    package = package_of(name)
    if find_spec(package) is not None:
        return
    extra = EXTRAS.get(package)
    remedy = f"pip install 'brain-tumor-mri[{extra}]'" if extra else "install it, or put its folder on PYTHONPATH"
    raise ImportError(f"{name} needs the package {package}, which isn't installed: {remedy}")


def describe_code(name: str) -> dict[str, Any]:
    """Package of a network, its version if it has one, and whether it is from outside."""
    package = package_of(name)
    return {"package": package, "version": find_version(package), "outside": is_outside(name)}


@cache
def find_version(package: str) -> str | None:
    """Version of an installed package; None of code that is only on the path."""
    for distribution in packages_distributions().get(package, [package]):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def rename_sizes(name: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by the names of the project, such as `in_channels` for `in_chans`; of other networks as they are.

    Raises:
        ValueError: if one size is given by two names, or is an argument that reads weights.
    """
    if not is_library(name):
        return dict(sizes)
    refused = sorted(REFUSED & set(sizes))
    if refused:
        raise ValueError(f"sizes of {name} can't have {refused[0]}; use the setting `pretrained` beside `sizes`")
    standard = {alias: size for size, aliases in STANDARD.items() for alias in aliases}
    renamed: dict[str, Any] = {}
    for key, value in sizes.items():
        new = key if _placeholder(value) else standard.get(key, key)
        if new in renamed:
            raise ValueError(f"sizes of {name} give {new} twice; leave one of them out")
        renamed[new] = value
    return renamed


def _placeholder(value: Any) -> str | None:
    """The size that a value such as `{in_channels}` stands for."""
    # Without quotes YAML reads it as a block with one name and no value.
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) is None:
        value = f"{{{next(iter(value))}}}"
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        return value[1:-1]
    return None


def make(name: str, sizes: Mapping[str, Any], arguments: Mapping[str, Any]) -> "tuple[nn.Module, bool]":
    """A library's network with random weights, and whether it was told the image size, so that it takes no other.

    Args:
        sizes: those of STANDARD.
        arguments: of the class. A value `{in_channels}` stands for that of `sizes`.

    Raises:
        ImportError: if the package isn't installed.
        ValueError: if there is no such class, or it doesn't take these arguments.
    """
    require_installed(name)
    filled, declared = _fill(name, sizes, arguments)
    maker, own = _find_maker(name)
    is_told_size = "image_size" in declared
    for size, aliases in STANDARD.items():
        alias = next((alias for alias in aliases if alias in own), None)
        if size in declared or (alias in filled and alias is not None):
            continue
        if alias and sizes.get(size) is not None:
            filled[alias] = sizes[size]
            is_told_size |= size == "image_size"
        elif size != "image_size":
            raise ValueError(
                f"{name} has no argument called {' or '.join(aliases)}; name the one that takes it in sizes: "
                f'ARGUMENT: "{{{size}}}"'
            )
    # Slices and images have two axes.
    if "spatial_dims" in own:
        filled.setdefault("spatial_dims", 2)
    # smp downloads weights by default.
    if "encoder_weights" in own:
        filled["encoder_weights"] = None
    _require_arguments(name, own, filled)
    try:
        return maker(**filled), is_told_size
    except ImportError as error:
        # Of a package that the library needs for some of its networks only.
        words = f"{name} can't be built: {first_line(error).rstrip('.')}; install what is missing"
        raise ImportError(words) from error
    except Exception as error:
        # Any error: a library refuses sizes in its own ways.
        given = ", ".join(f"{key}={value!r}" for key, value in filled.items())
        raise ValueError(f"{name} can't be built with {given}: {first_line(error)}; change its `sizes`") from error


def _fill(name: str, sizes: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Arguments with placeholders filled in, and the sizes that these stand for."""
    filled, declared = {}, set()
    for key, value in arguments.items():
        size = _placeholder(value)
        if size is None:
            filled[key] = value
        elif size in STANDARD:
            filled[key] = sizes[size]
            declared.add(size)
        else:
            known = ", ".join(f"{{{known}}}" for known in STANDARD)
            raise ValueError(f"{key} of {name} is {{{size}}}, but what can be filled in is {known}")
    return filled, declared


def _find_maker(name: str) -> tuple[Any, dict[str, Parameter]]:
    """What makes a network, and its arguments by name."""
    if name.startswith(TIMM):
        return _find_timm(name.removeprefix(TIMM), _import_package(name))
    from torch import nn

    found = find_class(name, nn.Module, "network")
    return found, dict(signature(found).parameters)


def find_class(name: str, base: type[T], setting: str) -> type[T]:
    """A class of an installed package.

    Args:
        name: path of the class, such as `torch.optim.NAdam`.
        base: what it must be derived from.
        setting: last part of the setting that names it, and what is called so in messages.

    Raises:
        ImportError: if the package isn't installed or can't be imported.
        ValueError: if there is no such class, with the nearest name.
    """
    require_installed(name)
    _import_package(name)
    module_name, _, class_name = name.rpartition(".")
    try:
        module = resolve_name(f"{module_name}:")
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise ValueError(f"there is no module {module_name}; correct `{setting}: {name}`") from error
        raise ImportError(f"{name} needs the package {error.name}, which isn't installed; install it") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        named = vars(module).items()
        classes = [key for key, value in named if isinstance(value, type) and issubclass(value, base)]
        raise ValueError(f"there is no {setting} {class_name} in {module_name}{_did_you_mean(class_name, classes)}")
    return found


def create(name: str, base: type[T], setting: str, *values: Any, **arguments: Any) -> T:
    """An object of a class that `find_class` finds.

    Args:
        values: arguments of the class without names.
        arguments: those with names.

    Raises:
        ImportError: as `find_class`.
        ValueError: as `find_class`, or if the class refuses the arguments.
    """
    found = find_class(name, base, setting)
    try:
        return found(*values, **arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
        remedy = f"change `{setting}_arguments`"
        raise ValueError(f"{name} can't be made with {given}: {first_line(error)}; {remedy}") from error


def _import_package(name: str) -> Any:
    """The top-level package of a class.

    Raises:
        ImportError: if it can't be imported.
    """
    package = package_of(name)
    try:
        return resolve_name(f"{package}:")
    except Exception as error:
        # An ImportError, or the RuntimeError of a torchvision that was built for another torch.
        words = f"{package} can't be imported: {first_line(error)}; install a build that matches torch"
        raise ImportError(words) from error


def _find_timm(model: str, timm: Any) -> tuple[Any, dict[str, Parameter]]:
    """Timm's maker of a model. It takes the number of channels and classes of all, the size of some."""
    architecture = model.split(".")[0]
    if architecture not in timm.list_models():
        raise ValueError(f"timm has no model {architecture}{_did_you_mean(architecture, timm.list_models())}")

    def create(**arguments: Any) -> "nn.Module":
        return timm.create_model(architecture, pretrained=False, **arguments)

    names = ["in_chans", "num_classes"]
    about = timm.get_pretrained_cfg(architecture)
    if about is not None and about.fixed_input_size:
        names.append("img_size")
    own = {key: Parameter(key, Parameter.KEYWORD_ONLY, default=None) for key in names}
    return create, own | {"arguments": Parameter("arguments", Parameter.VAR_KEYWORD)}


def _require_arguments(name: str, own: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Refuse arguments that are missing or unknown, naming them."""
    any_number = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    named = {key: each for key, each in own.items() if each.kind not in any_number}
    missing = [key for key, each in named.items() if each.default is Parameter.empty and key not in given]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}, which nobody gave; add to its `sizes`")
    takes_any = len(named) < len(own)
    for key in given:
        # Of a network that takes any argument, a name that is a letter off is taken for a misspelt one.
        misspelt = get_close_matches(key, named, n=1, cutoff=0.85)
        if key not in named and (misspelt or not takes_any):
            raise ValueError(f"{name} has no argument {key}{_did_you_mean(key, list(named))}")


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    # Of names that differ in case the first: the others are aliases.
    by_lower = {each.lower(): each for each in reversed(known)}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{by_lower[close[0]]}'?"
    return f"; there are {', '.join(sorted(known)[:8])}, ..." if known else ", nor any other"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
