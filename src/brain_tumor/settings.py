"""Settings of the Kedro project."""

from brain_tumor.project.hooks import Failures, Parameters, RunSummary
from brain_tumor.project.privacy import Privacy
from brain_tumor.project.run_locks import RunLocks
from brain_tumor.project.tracking import Tracking
from brain_tumor.project.up_to_date import UpToDate

_up_to_date = UpToDate()
# The last one is called first. Failures raises, so that nothing is called after it.
HOOKS = (Failures(), Tracking(), RunSummary(_up_to_date), _up_to_date, RunLocks(), Privacy(), Parameters())
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment names what it changes, the rest is base's
}
