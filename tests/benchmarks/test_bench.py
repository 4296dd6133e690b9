"""`make bench` writes what was measured into the docs, and leaves what people wrote there alone."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench
    return bench


def test_what_was_measured_before_is_replaced_and_nothing_else(bench, tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n\nWritten by hand.\n")
    for text in ("ratio 1.1", "ratio 1.2"):
        bench.put(page, bench.section({"step": ("step.py --demo", text)}))
    said = page.read_text()
    assert said.startswith("# Performance\n\nWritten by hand.\n")
    assert "ratio 1.2" in said
    assert "ratio 1.1" not in said
    assert "`python benchmarks/step.py --demo`" in said
    page.write_text(said + "\nAfter it.\n")
    bench.put(page, bench.section({}))
    assert page.read_text().endswith("\nAfter it.\n")


def test_a_benchmark_that_fails_says_so_in_its_place(bench):
    assert bench.run(["step.py", "--ways", "no_such"]).startswith("failed:\n")


def test_every_benchmark_that_is_run_is_there(bench):
    for command in (*bench.BENCHMARKS.values(), *bench.OF_A_GPU.values()):
        assert (BENCHMARKS / command.split()[0]).is_file(), command
