"""Whatever the number of scans, a command holds the images of a few."""
import weakref

import pytest

from duiit.data.preparing import cohort
from duiit.util import threads
from duiit_cli.inference import networks


class Held:
    """Counts the arrays that are alive together of those it was shown."""

    def __init__(self):
        self.alive, self.most, self.seen = 0, 0, 0

    def __call__(self, array):
        self.seen += 1
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(array, self._gone)
        return array

    def _gone(self):
        self.alive -= 1


@pytest.fixture
def held(monkeypatch):
    """Counts what commands read: the slices of scans, and the prepared images of a cohort."""
    count = Held()
    read, image = networks.prepared_scan, cohort.Cohort.image

    def counted(*args, **kwargs):
        done, intensity = read(*args, **kwargs)
        for s, _, _ in done:
            count(s.image)
        return done, intensity

    monkeypatch.setattr(networks, "prepared_scan", counted)
    monkeypatch.setattr(cohort.Cohort, "image", lambda self, row: count(image(self, row)))
    return count


# The phantom has 6 scans of 2 slices of a modality, and 5 of its patients are not in the test part: 10 images.
TWO_SCANS = 4


@pytest.mark.parametrize("words", [
    ["predict", "--input", "ct"], ["predict", "--input", "ct", "--per_slice"],
    ["translate", "--input", "mri", "--output", "out"],
    ["evaluate", "--real", "truth/mri", "--fake", "truth/mri", "--paired", "--metrics", "mae,label_fidelity"]])
def test_scans_are_let_go_one_after_another(held, duiit, phantom, trained, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "helpers", lambda: 1)      # as on few cores: on many, some more scans wait
    places = {"ct": phantom / "ct", "mri": phantom / "mri", "truth/mri": phantom / "truth" / "mri"}
    assert duiit(words[0], "--checkpoints_dir", trained, "--name", "demo", *(places.get(w, w) for w in words[1:])) == 0
    # Of translate one is being read, and what waits has let its pixels go; of predict one more may be read. evaluate
    # works on one while the next two wait, and compares with scans of the other folder, of which its index keeps two.
    assert held.seen >= 12 and held.most <= TWO_SCANS + (6 if words[0] == "evaluate" else 0)


def test_test_holds_a_batch_of_images(held, duiit, trained, tmp_path):
    assert duiit("test", "--checkpoints_dir", trained, "--name", "demo", "--results_dir", tmp_path, "--phase",
                 "train", "--batch_size", 2) == 0
    batch, truth = 2, 2
    assert held.seen >= 24 and held.most <= 2 * (batch + truth)
