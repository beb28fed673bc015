"""What comparisons of recipes share: each training gets the same CPU time, on one thread, in a process of its own."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from brain_tumor.networks import NETWORKS

Work = dict[str, Any]
"""All that one training needs, as plain values; `pace` names those whose epochs take equally long."""


def make_parser(
    about: str | None, networks: Iterable[str], recipes: Sequence[str], chosen: Sequence[str], out: str, minutes: float
) -> argparse.ArgumentParser:
    """The arguments that every comparison has. `chosen`: recipes, unless others are asked for."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["test", "develop", "compare"])
    parser.add_argument("--data", type=Path, default=Path("data"), help="the project's data folder")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--networks", nargs="+", default=list(networks), help="of the project, or blocks of --blocks")
    parser.add_argument(
        "--blocks", type=Path, help="a YAML file of other networks by name, each as in parameters: network, sizes, ..."
    )
    parser.add_argument("--recipes", nargs="+", default=list(chosen), choices=list(recipes))
    parser.add_argument(
        "--set", nargs="*", default=[], help="change the recipe, such as ema_decay=0.99 augmentation.affine=0.5"
    )
    parser.add_argument("--minutes", type=float, default=minutes, help="CPU time of each training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, on one thread each")
    return parser


def train_all(
    arguments: argparse.Namespace,
    works: Iterable[Work],
    keys: list[str],
    measure_pace: Callable[[Work], float],
    train_and_score: Callable[[Work], pd.DataFrame],
    say: Callable[[pd.DataFrame], None],
) -> None:
    """Every training that is not in the table yet, which grows as they end.

    First, how many epochs of each fit the time.

    Args:
        keys: of a work, and columns of the table, that tell trainings apart.
        measure_pace: CPU minutes of an epoch.
        train_and_score: what is written of a work that also says its `epochs`.
        say: what is printed of it.
    """
    done = pd.read_csv(arguments.out) if arguments.out.is_file() else pd.DataFrame(columns=keys)
    known = set(done[keys].itertuples(index=False, name=None))
    works = [work for work in works if tuple(work[key] for key in keys) not in known]
    paces = arguments.out.with_suffix(".paces.json")
    pace = json.loads(paces.read_text()) if paces.is_file() else {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        new = {work["pace"]: work for work in works if work["pace"] not in pace}
        for key, minutes in zip(new, pool.map(measure_pace, new.values()), strict=True):
            pace[key] = minutes
            print(f"{key}: {60 * minutes:.0f} s of CPU an epoch", flush=True)
        paces.write_text(json.dumps(pace, indent=1))
        for future in [
            pool.submit(train_and_score, work | {"epochs": max(1, int(arguments.minutes / pace[work["pace"]]))})
            for work in works
        ]:
            table = future.result()
            table.to_csv(arguments.out, mode="a", header=not arguments.out.is_file(), index=False)
            say(table)


def read_block(path: Path | None, network: str) -> dict[str, Any] | None:
    """The block of a network; None if the file has none and the network is the project's.

    Raises:
        SystemExit: if there is no such network.
    """
    blocks = yaml.safe_load(path.read_text()) if path else {}
    if network not in NETWORKS and network not in blocks:
        sys.exit(f"no network '{network}' in the project or in {path or '--blocks'}")
    return blocks.get(network)


def override(recipe: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """A recipe with `a.b=value` applied."""
    recipe = json.loads(json.dumps(recipe))
    for change in changes:
        path, value = change.split("=")
        *parents, last = path.split(".")
        block = recipe
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = yaml.safe_load(value)
    return recipe
