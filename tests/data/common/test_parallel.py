import logging
import operator
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context

import pytest
from support import ask_who_works, hold

from brain_tumor.data.common.parallel import (
    ProgressLog,
    WorkerSettings,
    format_time,
    parallel_map,
    progress_enabled,
    show_progress,
    track,
)

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


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def follow(caplog, seconds_each, total, unit="patient", n=1):
    """The lines of a log while each part of the work takes so long."""
    caplog.clear()
    clock = Clock()
    with caplog.at_level(logging.INFO, "brain_tumor"):
        progress = ProgressLog(total, "segmenting", unit, clock)
        for _ in range(0, total, n):
            clock.now += seconds_each
            progress.update(n)
    return [record.getMessage() for record in caplog.records]


def test_a_log_has_a_line_every_half_minute_with_the_time_left(caplog):
    lines = follow(caplog, 2.5, 100)
    assert lines[0] == "segmenting: 12 of 100 patients, about 4 min left"
    assert lines[-1] == "segmenting: 96 of 100 patients, about 10 s left"
    assert len(lines) == 8  # 250 s


def test_a_log_has_no_line_of_what_is_short_or_done(caplog):
    assert follow(caplog, 0.29, 100) == []
    assert follow(caplog, 60, 2) == ["segmenting: 1 of 2 patients, about 60 s left"]


def test_bytes_are_counted_in_larger_units(caplog):
    assert follow(caplog, 31, 4_000_000_000, "B", 1_000_000_000)[0] == "segmenting: 1.00GB of 4.00GB, about 2 min left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "10 s"), (44, "40 s"), (89, "90 s"), (90, "2 min"), (5000, "83 min"), (3 * 3600, "3 h")]
)
def test_times_are_said_as_somebody_who_waits_would(seconds, words):
    assert format_time(seconds) == words


def test_what_is_tracked_comes_through_in_a_terminal_and_in_a_log(monkeypatch, capsys):
    assert list(track("abc", "spelling", unit="letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    with show_progress(3, "spelling") as progress:
        assert isinstance(progress, ProgressLog)
    monkeypatch.setattr("brain_tumor.data.common.parallel.progress_enabled", lambda: True)
    assert list(track("abc", "spelling", unit="letter")) == ["a", "b", "c"]
    assert "spelling: 100%" in capsys.readouterr().err


def test_nothing_to_do():
    assert list(parallel_map(operator.pow, [], WorkerSettings(), "squaring")) == []


@pytest.mark.filterwarnings("ignore")  # of Dask's own
def test_a_dask_cluster_does_the_same_work():
    distributed = pytest.importorskip("distributed", reason="the extra `distributed` is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        settings = WorkerSettings(dask=cluster.scheduler_address)
        assert list(parallel_map(operator.pow, TASKS, settings, "squaring")) == SQUARES
        assert os.getpid() not in set(parallel_map(os.getpid, [()] * 4, settings, "asking"))


def test_workers_whose_memory_has_grown_are_replaced():
    """It is done in a thread, of which nothing is heard again if a warning ends it."""

    def give_up(*_):
        raise TimeoutError("results no longer come")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(100)
    try:
        tasks = [(number,) for number in range(10)]
        assert list(parallel_map(hold, tasks, WorkerSettings(workers=2), "holding")) == list(range(10))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
