"""Whether a run is still going on, as its folder says."""
import json
import shutil
import subprocess
from argparse import Namespace

import pytest

from duiit.util import run_status
from duiit.util.errors import UserError


def script(folder):
    text = (folder / "web" / run_status.SCRIPT).read_text()
    return json.loads(text.removeprefix("duiitStatus(").removesuffix(");\n"))


def test_it_says_how_far_and_how_it_ended(tmp_path):
    with run_status.RunStatus(tmp_path, tmp_path / "web") as status:
        assert run_status.read(tmp_path)["state"] == "running"
        status.at(3, 40)
        status.ended(run_status.FINISHED)
    said = run_status.read(tmp_path)
    assert (said["state"], said["epoch"], said["step"]) == ("finished", 3, 40)
    assert script(tmp_path) == said


def test_it_goes_on_saying_so(tmp_path, monkeypatch):
    monkeypatch.setattr(run_status, "BEAT", 0.01)
    with run_status.RunStatus(tmp_path) as status:
        status.at(1, 7)
        while run_status.read(tmp_path).get("step") != 7:
            assert status._thread.is_alive()


@pytest.mark.parametrize(("error", "state", "message"), [
    (UserError("the disk is full"), "failed", "the disk is full"), (ValueError("odd"), "failed", "ValueError: odd"),
    (KeyboardInterrupt(), "stopped", None)])
def test_what_ends_it(tmp_path, error, state, message):
    with pytest.raises(type(error)), run_status.RunStatus(tmp_path):
        raise error
    said = run_status.read(tmp_path)
    assert (said["state"], said["message"]) == (state, message)


def test_a_run_of_before_says_nothing(tmp_path):
    assert run_status.read(tmp_path) == {}


def test_no_message_breaks_out_of_the_pages_script(tmp_path):
    with pytest.raises(UserError), run_status.RunStatus(tmp_path, tmp_path / "web"):
        raise UserError("</script><b>")
    assert "<" not in (tmp_path / "web" / run_status.SCRIPT).read_text()


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize(("said", "seen"), [
    ({"state": "running", "updated": "2020-01-01T00:00:00+00:00"}, "Not running any more"),
    ({"state": "running", "updated": "2999-01-01T00:00:00+00:00"}, "Running at epoch 2, step 9"),
    ({"state": "failed", "updated": "2020-01-01T00:00:00+00:00", "message": "the disk is full"}, "the disk is full"),
    ({"state": "finished", "updated": "2020-01-01T00:00:00+00:00"}, "Finished at epoch 2, step 9.")])
def test_the_page_tells_a_killed_run_from_one_that_lives(tmp_path, said, seen):
    page = run_status.page_line(Namespace(name="</script>", checkpoints_dir=str(tmp_path)))
    code = page.split("<script>")[1].split("</script>")[0]
    call = json.dumps({"epoch": 2, "step": 9, "process": 1, "host": "h", "message": None, **said})
    whole = ("const line={style:{}};const document={getElementById:()=>line};" + code
             + f"duiitStatus({call});console.log(line.textContent)")
    assert seen in subprocess.run(["node", "-e", whole], capture_output=True, text=True, timeout=60).stdout
