"""The study of independent phantoms: in which order it runs, what it skips, and what its summary makes of a table."""
from pathlib import Path

import pytest

from duiit.util.errors import UserError

HERE = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def study(monkeypatch):
    """(phantom_study, its list of commands that would have been run)."""
    monkeypatch.syspath_prepend(str(HERE))
    import phantom_study
    import study_table
    commands = []
    monkeypatch.setattr(study_table, "call", lambda *words: commands.append([str(w) for w in words]) or 0)
    monkeypatch.setattr(study_table, "rows_of", lambda folder, settings: [
        {**dict.fromkeys(study_table.CELL), "method": "pure_ct", "mse_patient": 300.0, "settings": settings}])
    return phantom_study, commands


def row(study, setting, phantom, method, error, **more):
    values = {**dict.fromkeys(study.COLUMNS), "setting": setting, "phantom": phantom, "method": method, "chosen": "",
              "mse_patient": error, "settings": study.settings_of(study.SETTINGS[setting], method)}
    return values | more


def table(study, path, rows):
    study.study_table.write(path, rows, study.COLUMNS, study.key)
    return path


def test_all_settings_of_a_stage_grow_evenly(study):
    study, _ = study
    places = [(s.name, seed) for s, seed, _ in study.units(study.arguments(["--work", "w", "--stages", "main"]))]
    assert places[:4] == [("small", 1000), ("older", 1000), ("default", 1000), ("small", 1001)]
    assert [sum(name == s for name, _ in places) for s in ("small", "older", "default")] == [10, 10, 5]


def test_what_stands_in_the_table_is_not_run_again(study, tmp_path):
    study, commands = study
    rows = [row(study, "small", 1000, m, 200.0) for m in study.MAIN if m != "duiit_mri"]
    path = table(study, tmp_path / "cells.csv", rows)
    words = ["--work", str(tmp_path / "w"), "--table", str(path), "--stages", "main", "--phantoms", "1", "--keep"]
    assert study.main([*words, "--settings", "small"]) == 0
    assert not list(tmp_path.glob("*.lock"))
    phantom, experiment = commands
    assert phantom[:2] == ["data", "phantom"] and experiment[0] == "experiment"
    assert experiment[experiment.index("--methods") + 1] == "duiit_mri"
    kept = study.study_table.read(path, study.COLUMNS, words=("setting",))
    assert [r["mse_patient"] for r in kept] == [200.0] * 5, "PURE-CT, trained again to judge, keeps its row"


def test_cells_of_other_sizes_are_refused(study, tmp_path, capsys):
    study, commands = study
    path = table(study, tmp_path / "cells.csv", [row(study, "small", 1000, "pure_ct", 1.0, settings="0ther")])
    assert study.main(["--work", str(tmp_path), "--table", str(path)]) == 2
    assert "the cell small, 1000, pure_ct is of other sizes" in capsys.readouterr().err and not commands


def test_the_summary_by_hand(study, tmp_path):
    """PURE 300, 320, 340; oracle 100, 120, 140; CycleGAN 200, 180, 250; DUIIT 120, 160, 200. DUIIT: (320 - 160) /
    (320 - 120) = 80 % of the way; minus CycleGAN -80, -20, -50: mean -50, t = 50 / (30 / sqrt(3)) = 2.887, two-sided
    p with two degrees of freedom 0.102. Minus PURE-CT: -160, t = 160 / (20 / sqrt(3)) = 13.86, p 0.005."""
    study, _ = study
    errors = {"pure_ct": (300, 320, 340), "oracle_mri": (100, 120, 140), "cyclegan_mri": (200, 180, 250),
              "duiit_mri": (120, 160, 200)}
    rows = [row(study, "older", 1000 + n, m, float(e), floor_mse_patient=350.0)
            for m, found in errors.items() for n, e in enumerate(found)]
    path = table(study, tmp_path / "cells.csv", rows)
    text = study.summary.text(study.study_table.read(path, study.COLUMNS, words=("setting",)))
    line = next(part for part in text.splitlines() if "by DUIIT" in part)
    assert line == ("| + **by DUIIT** (joint, push running) | 3 | 160 ± 40 | 80 % | -160 (0.005) | -50 (0.102) | "
                    "3, 0, 0 |")


def test_methods_and_sizes_are_presets_that_exist(study):
    study, _ = study
    from duiit.options import presets
    from duiit_cli.experiments.planning import methods
    there = set(methods.available(["mri"]))
    for stage in study.STAGES.values():
        for setting, names, _ in stage:
            assert presets.read(str(HERE / "phantom" / f"{study.SETTINGS[setting].sizes}.toml"))["crop_size"]
            for name in names:
                file = HERE / "phantom" / f"{name}.toml"
                assert name in there or methods.load(str(file), {}).translator


def test_an_unknown_table_is_refused(study, tmp_path):
    study, _ = study
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not those of this study"):
        study.study_table.read(path, study.COLUMNS)


def test_a_table_from_before_there_was_a_mask_goes_on_and_says_so(study, tmp_path):
    study, _ = study
    old = [c for c in study.COLUMNS if c != "paired_over"]
    study.study_table.write(tmp_path / "t.csv", [row(study, "small", 1000, "cyclegan_mri", 200.0, paired_mae=6.0)], old,
                            study.key)
    new = row(study, "small", 1001, "cyclegan_mri", 210.0, paired_mae=12.0, paired_over="body found in the real CT")
    rows = study.study_table.add(tmp_path / "t.csv", [new], study.COLUMNS, study.key, words=("setting",))
    assert [r["paired_over"] for r in rows] == ["whole image", "body found in the real CT"]
    assert "against the true CT, body found in the real CT or whole image: MAE (HU)" in study.summary.text(rows)
