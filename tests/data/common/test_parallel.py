import operator
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context

import pytest
from support import ask_who_works

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map, progress_enabled

TASKS = [(k, 2) for k in range(7)]
SQUARES = [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(parallel_map(operator.pow, TASKS, WorkerSettings(workers=workers), "squaring")) == SQUARES


def test_a_process_beside_others_does_its_work_itself_unless_told_otherwise():
    own, workers = ask_who_works(2)
    assert own not in workers
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        (own, workers), (_, others) = pool.submit(ask_who_works, -1).result(), pool.submit(ask_who_works, 2).result()
        assert pool.submit(active_children).result() == []  # it would wait for them at its end
    assert workers == {own}
    assert own not in others


def test_progress_is_shown_in_a_terminal_that_no_other_process_writes_to(monkeypatch):
    assert not progress_enabled()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert progress_enabled()
    monkeypatch.setattr("brain_tumor.data.common.parallel.parent_process", lambda: "another")
    assert not progress_enabled()


def test_nothing_to_do():
    assert list(parallel_map(operator.pow, [], WorkerSettings(), "squaring")) == []


@pytest.mark.filterwarnings("ignore")  # of Dask's own
def test_a_dask_cluster_does_the_same_work():
    distributed = pytest.importorskip("distributed", reason="the extra `distributed` is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        settings = WorkerSettings(dask=cluster.scheduler_address)
        assert list(parallel_map(operator.pow, TASKS, settings, "squaring")) == SQUARES
        assert os.getpid() not in set(parallel_map(os.getpid, [()] * 4, settings, "asking"))
