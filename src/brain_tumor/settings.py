"""Settings of the Kedro project."""

from brain_tumor.hooks import Parameters, RunSummary, Tracking
from brain_tumor.up_to_date import UpToDate

_up_to_date = UpToDate()
HOOKS = (Tracking(), RunSummary(_up_to_date), _up_to_date, Parameters())  # the last one is called first
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment names what it changes, the rest is base's
}
