"""A run can be watched in four places, and none can stop it or slow it: real servers that die or never answer."""
import csv
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from duiit.util import visdom_link, visualizer
from duiit.util.errors import UserError
from duiit.util.progress import TrainProgress
from duiit.util.visualizer import Visualizer

# What upstream's users read their logs with.
ENTRY = re.compile(r"^\(epoch: (\d+), iters: (\d+), time: ([\d.]+), data: ([\d.]+)\) ((?:\S+: \S+ )+)$")
LOSSES = {"D_A": 0.25, "G_A": 1.5, "P_real": 1234.5678}


def options(folder, **more) -> SimpleNamespace:
    common = {"name": "Lauf ä 1", "checkpoints_dir": str(folder), "display_id": 0, "isTrain": True, "model": "duiit"}
    visdom = {"display_server": "http://localhost", "display_port": 1, "display_env": "main", "display_ncols": 4}
    return SimpleNamespace(**{**common, **visdom, "display_winsize": 64, "no_html": False, **more})


def visuals(labels=("real_A", "fake_B")) -> dict:
    return {label: torch.rand(2, 1, 8, 8) * 2 - 1 for label in labels}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def index(folder) -> str:
    return (folder / "Lauf ä 1" / "web" / "index.html").read_text("utf-8")


def epochs_on(page: str) -> list[int]:
    return [int(n) for n in re.findall(r"<h2>Epoch (\d+)</h2>", page)]


# ---------------------------------------------------------------- the logs


def test_log_lines_keep_upstreams_format(tmp_path):
    for _ in range(2):  # two starts, two headers, nothing lost
        Visualizer(options(tmp_path)).print_current_losses(3, 1600, LOSSES, 0.0123, 0.5)
    lines = (tmp_path / "Lauf ä 1" / "loss_log.txt").read_text("utf-8").splitlines()
    assert [line.startswith("================ Training Loss (") for line in lines] == [True, False, True, False]
    match = ENTRY.match(lines[1])
    assert match.groups()[:4] == ("3", "1600", "0.012", "0.500")
    assert match[5].split() == ["D_A:", "0.250", "G_A:", "1.500", "P_real:", "1234.568"]


def test_csv_holds_full_numbers_steps_and_late_losses(tmp_path):
    watcher = Visualizer(options(tmp_path))
    for epoch, iters in ((1, 100), (1, 200), (2, 100)):
        watcher.print_current_losses(epoch, iters, {"G_A": 1e-5 * iters}, 0, 0)
    watcher.print_current_losses(2, 200, {"G_A": torch.tensor(0.5), "idt_A": 2.0}, 0, 0, step=999)
    watcher.print_current_losses(3, 100, {"idt_A": 3.0}, 0, 0)
    rows = list(csv.DictReader((tmp_path / "Lauf ä 1" / "loss_log.csv").open(encoding="utf-8")))
    assert [row["step"] for row in rows] == ["100", "200", "300", "999", "1099"]
    assert rows[0] == {"step": "100", "epoch": "1", "iters": "100", "G_A": "0.001", "idt_A": ""}
    assert rows[3]["idt_A"] == "2.0"
    assert rows[4]["G_A"] == ""


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    first = Visualizer(options(tmp_path))
    for epoch in (1, 2, 3):
        first.reset()
        first.print_current_losses(epoch, 100, {"G_A": epoch}, 0, 0)
        first.display_current_results(visuals(), epoch, True)
    again = Visualizer(options(tmp_path, continue_train=True))
    again.print_current_losses(3, 100, {"G_A": 30.0}, 0, 0)
    again.display_current_results(visuals(), 3, True)
    rows = list(csv.DictReader((tmp_path / "Lauf ä 1" / "loss_log.csv").open(encoding="utf-8")))
    assert [(row["epoch"], row["G_A"]) for row in rows] == [("1", "1.0"), ("2", "2.0"), ("3", "30.0")]
    assert epochs_on(index(tmp_path)) == [3, 2, 1]
    anew = Visualizer(options(tmp_path))
    anew.display_current_results(visuals(), 1, True)
    assert epochs_on(index(tmp_path)) == [1]


def test_losses_are_on_the_screen_once(tmp_path, caplog):
    watcher = Visualizer(options(tmp_path))
    with caplog.at_level(logging.INFO):
        watcher.print_current_losses(1, 1, LOSSES, 0, 0)
        with TrainProgress(1, 10):
            watcher.print_current_losses(1, 2, LOSSES, 0, 0)
    assert "iters: 1," in caplog.text
    assert "iters: 2," not in caplog.text


def test_a_lost_log_does_not_end_the_run(tmp_path, caplog):
    watcher = Visualizer(options(tmp_path))
    (tmp_path / "Lauf ä 1" / "loss_log.txt").unlink()
    (tmp_path / "Lauf ä 1" / "loss_log.txt").mkdir()
    for i in range(3):
        watcher.print_current_losses(1, i, LOSSES, 0, 0)
    assert caplog.text.count("could not be written") == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--checkpoints_dir"):
        Visualizer(options(tmp_path / "file"))


# ---------------------------------------------------------------- the page


def test_both_generations_of_calls(tmp_path):
    watcher = Visualizer(options(tmp_path))
    watcher.display_current_results(visuals(), 1, True)
    watcher.reset()
    watcher.display_current_results(visuals(), 2, 800, False)  # the first of an epoch is always shown
    watcher.display_current_results(visuals(("late",)), 2, 1600, False)  # and the rest when asked for
    watcher.display_current_results(visuals(), epoch=3, total_iters=2400, save_result=True)
    watcher.plot_current_losses(1, 0.5, LOSSES)
    watcher.plot_current_losses(1600, LOSSES)
    assert epochs_on(index(tmp_path)) == [3, 2, 1]
    assert ">late<" not in index(tmp_path)
    names = {path.name for path in (tmp_path / "Lauf ä 1" / "web" / "images").iterdir()}
    assert names == {f"epoch{e:03d}_{label}.png" for e in (1, 2, 3) for label in ("real_A", "fake_B")}


def test_no_html_and_no_training_write_no_page(tmp_path):
    Visualizer(options(tmp_path, no_html=True)).display_current_results(visuals(), 1, True)
    Visualizer(options(tmp_path, name="test", isTrain=False)).display_current_results(visuals(), 1, True)
    assert not list(tmp_path.rglob("*.html"))
    assert not (tmp_path / "test" / "loss_log.txt").exists()


def test_page_shows_losses_and_stops_refreshing_at_the_end(tmp_path):
    watcher = Visualizer(options(tmp_path))
    for epoch in range(1, 5):
        watcher.print_current_losses(epoch, 100, LOSSES, 0, 0)
    watcher.display_current_results(visuals(), 4, True)
    assert 'http-equiv="refresh"' in index(tmp_path)
    watcher.close()
    page = index(tmp_path)
    assert 'http-equiv="refresh"' not in page
    assert page.count('class="panel"') == 3
    assert ">epoch</text>" in page


def test_older_epochs_move_to_pages_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(visualizer, "EPOCHS_A_PAGE", 5)
    watcher = Visualizer(options(tmp_path))
    for epoch in range(1, 13):
        watcher.reset()
        watcher.display_current_results(visuals(("a",)), epoch, False)
    web = tmp_path / "Lauf ä 1" / "web"
    assert epochs_on(index(tmp_path)) == [12, 11, 10, 9, 8]
    assert epochs_on((web / "epochs_001-005.html").read_text("utf-8")) == [5, 4, 3, 2, 1]
    assert epochs_on((web / "epochs_006-010.html").read_text("utf-8")) == [7, 6]
    (web / "epochs_001-005.html").unlink()
    resumed = Visualizer(options(tmp_path, continue_train=True))
    resumed.display_current_results(visuals(("a",)), 13, False)
    assert epochs_on((web / "epochs_001-005.html").read_text("utf-8")) == [5, 4, 3, 2, 1]
    links = re.findall(r'href="(epochs[^"]+)"', index(tmp_path))
    assert sorted(links) == sorted(path.name for path in web.glob("epochs_*.html"))


def test_an_epoch_costs_the_same_late_as_early(tmp_path):
    """Files written by an epoch, not seconds: upstream wrote and listed every earlier epoch again."""
    watcher = Visualizer(options(tmp_path))
    web = tmp_path / "Lauf ä 1" / "web"
    written = []
    for epoch in range(1, 121):
        before = time.time_ns()
        watcher.reset()
        watcher.display_current_results(visuals(("a",)), epoch, False)
        written.append(sum(path.stat().st_mtime_ns >= before - 20_000_000 for path in [*web.glob("*.html")]))
    assert max(written) <= 3
    assert len(index(tmp_path)) < 60_000


# ---------------------------------------------------------------- visdom


@contextmanager
def visdom_server(folder):
    pytest.importorskip("visdom")
    port = free_port()
    code = "from visdom.server.run_server import main; main()"  # without fetching the page's scripts: works offline
    command = [sys.executable, "-c", code, "-port", str(port), "-bind_local", "-env_path", str(folder / "env")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120           # of a machine with much else to do; as a rule it takes two
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield SimpleNamespace(port=port, process=process)
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with visdom_server(tmp_path_factory.mktemp("visdom")) as running:
        yield running


def ask(port: int, endpoint: str, **question):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{endpoint}", json.dumps(question).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.loads(opener.open(request, timeout=5).read())


@pytest.mark.slow
def test_images_and_losses_reach_a_server(tmp_path, server, caplog, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a hospital's proxy must not stand before localhost
    with caplog.at_level(logging.INFO):
        watcher = Visualizer(options(tmp_path, display_id=1, display_port=server.port, display_env="ward"))
        watcher.display_current_results({**visuals(), "large": torch.rand(1, 3, 16, 12)}, 1, True)
        watcher.plot_current_losses(1, 0.5, {**LOSSES, "G_A": float("nan"), "D_A": float("inf")})
        watcher.plot_current_losses(1, 0.75, LOSSES)
    assert "ward" in ask(server.port, "env_state")
    for what in ("images", "losses"):
        assert ask(server.port, "win_exists", win=f"Lauf ä 1_1_{what}", eid="ward") is True
    plot = ask(server.port, "win_data", win="Lauf ä 1_1_losses", eid="ward")["content"]["data"]
    assert [(trace["name"], trace["x"], trace["y"]) for trace in plot] == [
        ("D_A", [1.5, 1.75], [None, 0.25]),
        ("G_A", [1.5, 1.75], [None, 1.5]),
        ("P_real", [1.5, 1.75], [1234.5678, 1234.5678]),
    ]
    assert caplog.text == ""


@pytest.mark.slow
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_server_that_goes_away_costs_no_more_than_two_seconds(tmp_path, caplog, death):
    with visdom_server(tmp_path) as server:
        watcher = Visualizer(options(tmp_path, display_id=1, display_port=server.port))
        assert ask(server.port, "env_state")
        watcher.plot_current_losses(1, 0.1, LOSSES)
        server.process.send_signal(death)
        if death == signal.SIGKILL:
            server.process.wait()
        start = time.perf_counter()
        for i in range(10):
            watcher.plot_current_losses(1, i / 10, LOSSES)
            watcher.display_current_results(visuals(), 1, False)
        assert time.perf_counter() - start < 2.5
    assert caplog.text.count("visdom: no answer") == 1
    assert epochs_on(index(tmp_path)) == [1]


@pytest.mark.slow
def test_a_server_that_comes_back_gets_the_whole_curve(tmp_path, server, caplog, monkeypatch):
    monkeypatch.setattr(visdom_link, "RETRY_CALLS", 3)
    watcher = Visualizer(options(tmp_path, display_id=1, display_port=server.port))
    watcher.plot_current_losses(1, 0.1, LOSSES)
    server.process.send_signal(signal.SIGSTOP)
    watcher.plot_current_losses(1, 0.2, LOSSES)
    server.process.send_signal(signal.SIGCONT)
    with caplog.at_level(logging.INFO):
        calls = 2
        while "visdom: connected" not in caplog.text and calls < 60:        # a busy machine's may miss a try or two
            calls += 1
            watcher.plot_current_losses(1, calls / 100, LOSSES)
    assert "visdom: connected" in caplog.text
    plot = ask(server.port, "win_data", win="Lauf ä 1_1_losses", eid="main")["content"]["data"]
    assert plot[0]["x"] == pytest.approx([1.1, 1.2, *(1 + i / 100 for i in range(3, calls + 1))])


def one_line(caplog, *parts: str) -> None:
    lines = [record.getMessage() for record in caplog.records if "visdom" in record.getMessage()]
    assert len(lines) == 1
    assert all(part in lines[0] for part in (*parts, "--display_id 0"))
    assert "\n" not in lines[0]


def test_no_server_is_one_line_that_says_what_to_do(tmp_path, caplog):
    pytest.importorskip("visdom")
    port = free_port()
    with caplog.at_level(logging.INFO):
        watcher = Visualizer(options(tmp_path, display_id=1, display_port=port))
        for i in range(60):
            watcher.plot_current_losses(i, LOSSES)
    one_line(caplog, f"no server answers at http://localhost:{port}", f"python -m visdom.server -port {port}")


@pytest.mark.slow
def test_a_port_that_never_answers_is_left_within_three_seconds(tmp_path, caplog):
    pytest.importorskip("visdom")
    with socket.socket() as sock, caplog.at_level(logging.INFO):
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        start = time.perf_counter()
        Visualizer(options(tmp_path, display_id=1, display_port=sock.getsockname()[1]))
        assert time.perf_counter() - start < 3 + 2  # importing visdom for the first time is in it
    one_line(caplog)


def test_another_service_on_the_port_is_no_visdom(tmp_path, caplog):
    pytest.importorskip("visdom")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        with caplog.at_level(logging.INFO):
            Visualizer(options(tmp_path, display_id=1, display_port=port))
    finally:
        process.kill()
        process.wait()
    one_line(caplog)


@pytest.mark.slow
def test_without_the_package_the_run_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "visdom", None)  # importing it raises ImportError
    with caplog.at_level(logging.INFO):
        watcher = Visualizer(options(tmp_path, display_id=1))
        for i in range(60):
            watcher.plot_current_losses(i, LOSSES)
    one_line(caplog, "pip install visdom")


@pytest.mark.slow
def test_watching_opens_no_visdom_when_switched_off(tmp_path):
    code = (
        "import sys; from types import SimpleNamespace as N; from duiit.util.visualizer import Visualizer;"
        f"Visualizer(N(name='r', checkpoints_dir={str(tmp_path)!r}, display_id=0));"
        "assert not {'visdom', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=env)
