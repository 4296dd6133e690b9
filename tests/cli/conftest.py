"""Fixtures that the tests of several commands share."""
import json

import pytest


@pytest.fixture
def figures(duiit, tmp_path, capsys):
    """figures(*words) -> (report, what the screen shows on stdout, and on stderr)."""
    def call(*words, code=0):
        capsys.readouterr()
        path = tmp_path / "quality.json"
        path.unlink(missing_ok=True)
        assert duiit("evaluate", "--output", path, *words) == code
        seen = capsys.readouterr()
        return json.loads(path.read_text()), seen.out, seen.err
    return call
