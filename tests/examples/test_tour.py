"""The notebook works from its first cell to the last, and what is shown of it on a code host is of such a run."""
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour.ipynb"


def pictures(notebook):
    return sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))


@pytest.mark.slow
def test_the_tour_runs(tmp_path):
    notebook = nbformat.read(TOUR, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert pictures(notebook) == 2
    assert (tmp_path / "tour" / "synthetic_ct" / "labels.csv").is_file()


def test_what_is_stored_is_whole_and_of_no_machine():
    notebook = nbformat.read(TOUR, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(notebook) == 2
    for cell in code:
        for out in cell.outputs:
            out.get("data", {}).pop("image/png", None)
    absolute = r"(?<![\w./<])/\w[\w.-]*/|[A-Z]:\\\\"             # of POSIX, and of Windows as JSON writes it
    assert not re.search(absolute, nbformat.writes(notebook))
    assert TOUR.stat().st_size < 200_000
