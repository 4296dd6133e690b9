"""Work beside the main thread."""
import threading
import time

import pytest
import torch

from duiit.util import pipeline
from duiit.util.errors import UserError
from duiit.util.pipeline import Helpers, Stopped, in_order


def test_results_come_in_order_whichever_is_done_first():
    def work(n):
        time.sleep(0.02 * (n % 2 == 0))
        return n * n

    with Helpers(3) as helpers:
        assert list(in_order(helpers, work, range(9))) == [n * n for n in range(9)]


@pytest.mark.parametrize("weight, most", [(0, 3), (2**29, 2), (2**40, 1)])
def test_as_much_is_done_ahead_as_fits(weight, most):
    begun = []
    with Helpers(2) as helpers:
        for done, n in enumerate(in_order(helpers, lambda n: begun.append(n) or n, range(12), lambda _: weight)):
            time.sleep(0.01)
            assert n == done and len(begun) <= done + 1 + most


def test_an_error_is_raised_in_its_place_and_ends_what_has_not_begun():
    begun = []

    def work(n):
        begun.append(n)
        if n == 2:
            raise UserError("scan2.nii: is empty")
        return n

    seen = []
    with pytest.raises(UserError, match="scan2"), Helpers(1) as helpers:
        for n in in_order(helpers, work, range(1000)):
            seen.append(n)
    assert seen == [0, 1] and max(begun) < 6


def test_whoever_is_interrupted_does_not_wait_for_a_read_that_hangs(monkeypatch):
    monkeypatch.setattr(pipeline, "PATIENCE", 0.05)
    begun, hangs = threading.Event(), threading.Event()
    with pytest.raises(KeyboardInterrupt), Helpers(1) as helpers:
        waiting = helpers.submit(lambda: begun.set() or hangs.wait(300))
        begun.wait()
        raise KeyboardInterrupt
    assert not waiting.done()
    hangs.set()


def test_long_work_hears_that_it_is_wanted_no_more():
    going = threading.Event()

    def work(helpers):
        while True:
            going.set()
            helpers.go_on()

    with pytest.raises(KeyboardInterrupt), Helpers(1) as helpers:
        waiting = helpers.submit(lambda: work(helpers))
        going.wait()
        raise KeyboardInterrupt
    with pytest.raises(Stopped):
        waiting.result(timeout=60)


def test_helpers_compute_alone_and_others_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Helpers(2) as helpers:
            assert [helpers.submit(torch.get_num_threads).result() for _ in range(4)] == [1] * 4
            assert torch.get_num_threads() == 2
        others = []
        thread = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert others == [2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
