"""Two processes that train together: what each says as one of them fails."""
import datetime
import os
import signal
import socket
from types import SimpleNamespace

import pytest
import torch

from duiit.util import distributed
from duiit.util.errors import UserError
from duiit.util.process_failures import explained

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def said_by(rank, port, act):
    """In a process of its own: meets the other, acts, and agrees on something. Returns (process, file of what it
    said as it ended)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, os.fdopen(reading)
    os.close(reading)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost",
                      MASTER_PORT=str(port))
    try:
        with distributed.joined(SimpleNamespace(device="cpu", gpu_ids=[])):
            act()
            distributed.agree(1)
    except BaseException as error:
        os.write(writing, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def both_say(port, first=lambda: None, second=lambda: None, between=lambda: None):
    """[what the first process says as it ends, what the second says]: "" for nothing. between: done here once the
    second has ended, before the first is waited for."""
    child, file = said_by(0, port, first)
    other, said = said_by(1, port, second)
    with file, said:
        words = said.read()
        between()
        both = [file.read(), words]
    for process in (child, other):
        os.waitpid(process, 0)
    return both


def broken():
    raise ValueError("the gloo of NCCL")


def test_the_other_names_the_process_that_failed_and_its_error(port):
    first, second = both_say(port, second=broken)
    assert second == "ValueError: the gloo of NCCL"
    assert first.startswith("UserError: process 1 on ")
    assert ": ValueError: the gloo of NCCL. It failed first, and process 0 ends with it. The last saved" in first


def test_of_a_process_that_was_killed_nothing_is_made_up(port):
    first, second = both_say(port, second=lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert second == ""
    assert first.startswith("UserError: another process of this run ended without a word, killed perhaps")
    assert "by peer" in first, "what it was noticed by"


def test_a_full_memory_is_called_one(port):
    first, second = both_say(port, second=lambda: torch.empty(2**55))
    assert second.startswith("UserError: process 1 on ")
    assert "(cpu) is out of memory: " in second and "allocate" in second and "--batch_size" in second
    assert first.startswith("UserError: process 1 on ")
    assert "is out of memory" in first and "It failed first" in first


@pytest.mark.slow
def test_a_wait_that_was_too_long_is_called_one(port, monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", datetime.timedelta(seconds=4))
    reading, writing = os.pipe()

    def wait():
        os.close(writing)
        os.read(reading, 1)         # until the other has ended
    first, second = both_say(port, first=wait, second=lambda: None, between=lambda: os.close(writing))
    assert second.startswith("UserError: process 1 waited too long for the others, of which one hangs")
    assert "Timed out waiting" in second
    assert "process 1 waited too long" in first and "It failed first, and process 0 ends with it" in first


def test_a_port_that_is_taken_is_called_one():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        child, said = said_by(0, taken.getsockname()[1], lambda: None)
        with said:
            text = said.read()
        os.waitpid(child, 0)
    assert text.startswith("UserError: the port at which the processes of this run meet is taken")
    assert "EADDRINUSE" in text and "MASTER_PORT" in text


@pytest.mark.parametrize("error", [RuntimeError("NCCL error: invalid usage, Duplicate GPU detected"),
                                   RuntimeError("DataLoader timed out after 5 seconds"),
                                   BrokenPipeError("Broken pipe")], ids=str)
def test_what_is_no_lost_process_stays_what_it_is(error):
    with pytest.raises(type(error), match=str(error)) as caught, explained(None, 0, "cpu"):
        raise error
    assert not isinstance(caught.value, UserError)
