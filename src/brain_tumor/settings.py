"""Settings of the Kedro project."""

from brain_tumor.hooks import Failures, Parameters, RunSummary
from brain_tumor.tracking import Tracking

HOOKS = (Failures(), Tracking(), RunSummary(), Parameters())  # the last one is called first
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment names what it changes, the rest is base's
}
