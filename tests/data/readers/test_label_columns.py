"""Which column of a table is taken: names in any script, ages in any unit, several that could be meant."""
import pandas as pd
import pytest

from duiit.data.readers.label_columns import age_unit, key_of
from duiit.data.readers.labels import find_labels_file, read_labels
from duiit.util.errors import UserError


def labels(folder, header, *rows, name="labels.csv", **options):
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return read_labels(folder, **options).by_patient


@pytest.mark.parametrize("column, others", [("年龄", ["身高", "体重"]), ("возраст", ["рост", "вес"]),
                                            ("उम्र", ["ऊँचाई", "कि", "की"]), ("العمر", ["الطول", "الوزن"]),
                                            ("%", ["§", "?"])])
def test_a_column_in_any_script_is_the_one_that_was_named(tmp_path, column, others):
    header, values = [*others, column], [170 + i for i in range(len(others))]
    assert labels(tmp_path, ",".join(["patient", *header]), ",".join(map(str, ["A", *values, 61.5])),
                  label_column=column) == {"A": 61.5}
    with pytest.raises(UserError, match="has no column"):
        read_labels(tmp_path, label_column="名")
    with pytest.raises(UserError, match="has no column"):
        read_labels(tmp_path, label_column="!")
    assert pd.read_csv(tmp_path / "labels.csv")[column].tolist() == [61.5]


def test_an_id_column_in_any_script(tmp_path):
    assert labels(tmp_path, "姓名,患者,age", "x,A,61", id_column="患者") == {"A": 61}


def test_a_name_is_taken_to_the_letter_before_it_is_taken_roughly(tmp_path):
    assert labels(tmp_path, "patient,Score,score,SCORE", "A,1,2,3", label_column="score") == {"A": 2}
    assert labels(tmp_path, "patient,Scan (mm),scan_mm", "A,1,2", label_column="scan_mm") == {"A": 2}
    assert labels(tmp_path, "patient,Gru\u0308n", "A,1", label_column="gr\u00fcn") == {"A": 1}     # one ü, two ways


def test_several_columns_that_could_be_meant_are_named(tmp_path, caplog):
    assert labels(tmp_path, "patient,age_at_scan,AGE,age_months", "A,60,61,732") == {"A": 61}
    assert "column 'AGE', not from 'age_at_scan' or 'age_months'" in caplog.text
    (tmp_path / "b").mkdir()
    assert labels(tmp_path / "b", "patient,age,age", "A,60,61") == {"A": 60}
    assert "not from 'age' in column 3" in caplog.text
    (tmp_path / "c").mkdir()
    assert labels(tmp_path / "c", "id,age,ID", "A,60,B") == {"A": 60} and "not from 'ID'" in caplog.text


@pytest.mark.parametrize("name, years", [
    ("age", 30), ("Age\n(years)", 30), ("age_years", 30), ("Patient Age", 30), ("Patient's Age", 30),
    ("age_at_initial_pathologic", 30),
    ("age_months", 2.5), ("Age (months)", 2.5), ("age_in_months", 2.5), ("age_mo", 2.5), ("age_months_at_scan", 2.5),
    ("age_weeks", 30 * 7 / 365.25), ("age [wk]", 30 * 7 / 365.25), ("age_days", 30 / 365.25)])
def test_ages_are_brought_to_years(tmp_path, caplog, name, years):
    pd.DataFrame({"patient": ["A", "B"], name: [30, None]}).to_csv(tmp_path / "labels.csv", index=False)
    found = read_labels(tmp_path)
    assert found.is_age and found.by_patient == {"A": pytest.approx(years), "B": None}
    assert ("brought to years" in caplog.text) == (years < 30)
    assert read_labels(tmp_path, label_column=name).by_patient["A"] == pytest.approx(years)


@pytest.mark.parametrize("name", ["age_of_onset", "age_at_death", "age_group", "age_z", "age_hours", "age_m", "agent",
                                  "age_years_months", "age2", "age_of_mother", "gestational_age_weeks"])
def test_what_is_no_age_is_not_taken_for_one(tmp_path, caplog, name):
    assert age_unit(key_of(name)) is None
    pd.DataFrame({"patient": ["A"], name: [30]}).to_csv(tmp_path / "clinical.csv", index=False)
    assert find_labels_file(tmp_path) is None
    assert (f"column '{name}' is not taken" in caplog.text) == name.startswith("age_")
    found = read_labels(tmp_path, label_column=name)                # as it stands, and never mixed with headers' ages
    assert found.by_patient == {"A": 30} and not found.is_age


def test_a_column_may_tell_each_rows_unit(tmp_path):
    assert labels(tmp_path, "patient,age,age_unit", "A,30,months", "B,30,Y", "C,15,D") == {
        "A": 2.5, "B": 30, "C": pytest.approx(15 / 365.25)}
    with pytest.raises(UserError, match=r"row 2: age '30' is of the unit 'moons'"):
        labels(tmp_path, "patient,age,age_unit", "A,30,moons")


def test_an_age_string_in_a_column_of_months_keeps_its_own_unit(tmp_path):
    assert labels(tmp_path, "patient,age_months", "A,30", "B,030Y") == {"A": 2.5, "B": 30}


def test_sheets_with_different_labels_are_not_mixed(tmp_path):
    with pd.ExcelWriter(tmp_path / "labels.xlsx") as book:
        pd.DataFrame({"patient": ["A"], "age": [30]}).to_excel(book, sheet_name="one", index=False)
        pd.DataFrame({"patient": ["B"], "age_months": [30]}).to_excel(book, sheet_name="two", index=False)
    assert read_labels(tmp_path).by_patient == {"A": 30, "B": 2.5}
    with pd.ExcelWriter(tmp_path / "labels.xlsx", mode="a") as book:
        pd.DataFrame({"patient": ["C"], "label": [3]}).to_excel(book, sheet_name="three", index=False)
    with pytest.raises(UserError, match="sheet 'one'.*sheet 'three'"):
        read_labels(tmp_path)
