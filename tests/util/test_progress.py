"""Progress on a real (pseudo-)terminal and in a log; messages; and a terminal that is left as it was found."""
import logging
import os
import pty
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from duiit.util import logs, progress
from duiit.util.errors import UserError
from duiit.util.progress import TrainProgress, track

PREAMBLE = "import logging, time, sys; from duiit.util import logs, progress; from duiit.util.progress import *\n"
PREAMBLE += "logs.setup_logging(); log = logging.getLogger('duiit.util.x')\n"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def on_a_terminal(code: str, stdout=None) -> tuple[int, str]:
    """Run `code` with a pseudo-terminal as its standard error (and output); returns its status and what was shown."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", PREAMBLE + code], stdout=stdout or theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return process.wait(timeout=30), shown.decode()


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


# ---------------------------------------------------------------- on a terminal


@pytest.mark.slow
def test_training_bar_shows_epoch_losses_rate_and_messages_stay_whole():
    code = """
with TrainProgress(3, 40) as p:
    for epoch in (1, 2, 3):
        p.start_epoch(epoch)
        for i in range(10):
            time.sleep(0.03)
            p.advance(4, {'G_A': 1.5, 'P_fake': 345.678})
        for i in track(iter([1, 2]), 'validating'):
            time.sleep(0.25)
        log.info('saved %s', '/a/path/that/is/longer/than/the/terminal/is/wide/' + 'x' * 80)
"""
    status, shown = on_a_terminal(code)
    text = plain(shown)
    assert status == 0
    for part in ("epoch 2/3", "images/s", "left", "G_A 1.5  P_fake 346", "validating"):
        assert part in text
    assert "/wide/" + "x" * 80 in text  # not broken into lines
    assert shown.rindex(SHOW) > shown.rindex(HIDE)


@pytest.mark.parametrize("failure", ["1 / 0", "raise KeyboardInterrupt"])
@pytest.mark.parametrize(
    "loop",
    [
        "for i in track(range(5), 'reading'):\n    {0}",
        "with TrainProgress(2, 5) as p:\n    for i in track([1], 'in'):\n        p.advance(1, {{'a': 1}})\n        {0}",
    ],
    ids=["track", "train"],
)
def test_a_failure_gives_the_terminal_back_before_it_is_told(loop, failure):
    code = "sys.excepthook = lambda *e: sys.stderr.write('TOLD')\n" + loop.format(failure)
    status, shown = on_a_terminal(code)
    assert status != 0
    assert HIDE in shown
    assert shown.rindex(HIDE) < shown.rindex(SHOW) < shown.index("TOLD")


def test_results_on_standard_output_stay_out_of_the_bars(tmp_path):
    out = tmp_path / "out.csv"
    with out.open("w") as file:
        status, shown = on_a_terminal("for i in track(range(3), 'reading'):\n    print('row', i)", stdout=file)
    assert (status, out.read_text()) == (0, "row 0\nrow 1\nrow 2\n")
    assert "row" not in shown


# ---------------------------------------------------------------- in a log


def test_lines_are_rare_and_say_everything(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO), TrainProgress(2, 100) as p:
        for epoch in (1, 2):
            p.start_epoch(epoch)
            for _ in range(25):
                clock[0] += 1.0
                p.advance(4, {"G_A": 1.5})
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "epoch 1/2: 40/100 images  4.0 images/s, 0:15 left, 0:40 in all  G_A 1.5"
    assert lines[-1].startswith("epoch 2/2: 100/100 images")
    assert len(lines) == 5


def test_a_run_of_days_logs_once_a_minute(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO):
        for _ in track(range(20_000), "translating", unit="images"):
            clock[0] += 5.0
    assert len(caplog.records) < 20_000 * 5 / 60 + 70
    assert caplog.records[-1].getMessage().startswith("translating: 20000/20000 images")
    assert "5.0 s/image" in caplog.records[-1].getMessage()


def test_quick_work_says_nothing_and_unknown_lengths_are_fine(caplog):
    with caplog.at_level(logging.INFO):
        assert list(track((i for i in range(3)), "reading")) == [0, 1, 2]
        for _ in track([1, 2], "left early"):
            break
    assert not caplog.records
    assert not progress.is_training_shown()


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (760, "12:40"), (11_100, "3:05:00"), (190_000, "2 d 4 h")])
def test_times_read_well(seconds, text):
    assert progress._clock(seconds) == text


# ---------------------------------------------------------------- messages


@pytest.fixture
def messages():
    """setup_logging changes the process: put it back."""
    root, shown = logging.getLogger(), warnings.showwarning
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in logs.OWN}
    yield
    root.handlers[:] = handlers
    warnings.showwarning = shown
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_messages_are_single_lines_on_standard_error(messages, capsys):
    logs.setup_logging()
    logs.setup_logging()  # twice does not double them
    logging.getLogger("duiit.data.x").info("100 % of [bold] Größe")
    logging.getLogger("duiit.data.x").debug("hidden")
    logging.getLogger("some.library").info("hidden too")
    logging.getLogger("duiit.models.y").warning("careful")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._log_warning  # catch_warnings puts Python's own in its place
        warnings.warn("odd\nand more of it")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "100 % of [bold] Größe\nwarning: careful\nwarning: odd\n"


def test_quiet_and_verbose(messages, capsys):
    logs.setup_logging(quiet=True)
    logging.getLogger("duiit.data.x").info("hidden")
    logs.setup_logging(verbose=True)
    logging.getLogger("duiit.data.x").debug("detail")
    assert capsys.readouterr().err == "duiit.data.x: detail\n"


def test_a_terminal_without_the_letter_gets_an_escape():
    code = PREAMBLE + "log.info('Größe')"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=30)
    assert done.stderr == "Gr\\xf6\\xdfe\n"


def test_log_file_is_optional_and_a_bad_path_is_named(messages, tmp_path):
    logs.setup_logging()
    handler = logs.log_to_file(tmp_path / "sub" / "run.log")
    logging.getLogger("duiit.util.x").info("hello ä")
    handler.close()
    assert re.match(r"\d{4}-.* INFO duiit\.util\.x: hello ä", (tmp_path / "sub" / "run.log").read_text("utf-8"))
    with pytest.raises(UserError, match=str(tmp_path)):
        logs.log_to_file(tmp_path)


def test_messages_and_progress_import_nothing_heavy():
    code = "import sys, duiit.util.logs, duiit.util.files, duiit.util.progress\n"
    code += "print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout == "[]\n"


# -- in a notebook -------------------------------------------------------------------------------------------------

@pytest.fixture
def cell(monkeypatch):
    """What a notebook's cell has shown, in order, as if this process were its kernel."""
    shown = []

    class Handle:
        def update(self, item):
            shown.append(item.data)

    monkeypatch.setattr(logs, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0)
    monkeypatch.setattr("IPython.display.display", lambda item, display_id: Handle())
    return shown


def test_a_cell_shows_a_bar_and_clears_it(cell, capfd):
    assert list(track("abc", "reading <b>", unit="scans")) == ["a", "b", "c"]
    assert [text.partition(">")[0] for text in cell[:3]] == [f'<progress value="{n}" max="3"' for n in (1, 2, 3)]
    assert "reading &lt;b&gt;: 2/3 scans" in cell[1]
    assert cell[3:] == [""]
    assert capfd.readouterr() == ("", "")


def test_a_cell_in_which_the_work_fails_is_cleared_too(cell):
    with pytest.raises(ZeroDivisionError):
        for item in track([1, 0], "dividing"):
            1 / item
    assert cell[-1] == ""


def test_what_is_done_at_once_shows_nothing(cell, monkeypatch):
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 10)
    list(track("abc", "reading"))
    assert cell == []


def test_a_plain_process_is_no_notebook():
    assert not logs.in_notebook()
