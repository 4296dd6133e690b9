"""From a table's cells to numbers: fillers of anonymisers, merged cells, decimal commas, thousands."""
import openpyxl
import pydicom
import pytest
from pydicom.data import get_testdata_file

from duiit.data.readers import find_scans
from duiit.data.readers.labels import label_scans, read_labels
from duiit.util.errors import UserError


def labels(folder, *rows, header="patient,age", **options):
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return read_labels(folder, **options).by_patient


def book(folder, rows, *merged):
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    for cells in merged:
        made.active.merge_cells(cells)
    made.save(folder / "labels.xlsx")
    return folder


# ---- fillers --------------------------------------------------------------------------------------------------------

def headers(folder, *ages):
    for number, age in enumerate(ages):
        ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        ds.PatientID, ds.SOPInstanceUID, ds.SeriesInstanceUID = f"p{number}", f"1.2.{number}", f"1.3.{number}"
        with pydicom.config.disable_value_validation():
            ds.PatientAge = age
        (folder / f"p{number}").mkdir(parents=True)
        ds.save_as(folder / f"p{number}" / "1.dcm")
    return [scan.label for scan in label_scans(find_scans(folder), folder)]


@pytest.mark.parametrize("filler", ["000Y", "000D", "000M", "000", "999Y", "XXXY"])
def test_a_fillers_age_in_a_header_is_missing_and_told(tmp_path, caplog, filler):
    assert headers(tmp_path, "061Y", filler, "", "045Y", filler) == [61, None, None, 45, None]
    assert f"2 of 5 ages are no ages but fillers ({filler})" in caplog.text


def test_a_newborn_among_infants_is_0(tmp_path, caplog):
    assert headers(tmp_path, "006M", "000D", "000Y", "014D") == [0.5, 0, None, pytest.approx(14 / 365.25)]
    assert "1 of 4 ages" in caplog.text
    assert labels(tmp_path / "t", "A,000D", "B,0.5", "C,000Y", "D,012D")["A"] == 0


def test_a_fillers_age_in_a_table_is_missing_and_told(tmp_path, caplog):
    assert labels(tmp_path, "A,000Y", "B,61", "C,999Y", "D,000D") == {"A": None, "B": 61, "C": None, "D": None}
    assert "3 of 4 ages" in caplog.text


def test_the_number_0_is_kept_and_told_among_adults(tmp_path, caplog):
    assert labels(tmp_path / "a", "A,0", "B,8", "C,5") == {"A": 0, "B": 8, "C": 5} and not caplog.text
    assert labels(tmp_path / "b", "A,0", "B,80", "C,50")["A"] == 0 and "1 of 3 ages are 0" in caplog.text


# ---- Excel ----------------------------------------------------------------------------------------------------------

def test_merged_cells_count_for_every_row(tmp_path):
    rows = [["site", "patient", "age"], ["x", "A", 61], [None, "B", None], [None, "C", 45], ["y", "D", None]]
    book(tmp_path, rows, "A2:A4", "C2:C3")
    assert read_labels(tmp_path).by_patient == {"A": 61, "B": 61, "C": 45, "D": None}


def test_a_merged_patient_owns_every_file(tmp_path):
    book(tmp_path, [["patient", "file", "label"], ["A", "1.png", 1], [None, "2.png", 2]], "A2:A3")
    found = read_labels(tmp_path)
    assert found.by_file == {"1.png": 1, "2.png": 2} and found.file_patients == {"1.png": "A", "2.png": "A"}
    book(tmp_path, [["patient", "label"], ["A", 1], [None, 2]], "A2:A3")
    with pytest.raises(UserError, match="'A' has two labels"):
        read_labels(tmp_path)


def test_merged_headers_titles_and_footnotes_are_no_rows(tmp_path):
    rows = [["Age of our patients", None, None, None], ["patient", "age", "type", None], [None, None, "a", "b"],
            ["A", 61, 1, 0], ["see 2024", None, None, None]]
    book(tmp_path, rows, "A1:D1", "A2:A3", "B2:B3", "C2:D2", "A5:D5")
    assert read_labels(tmp_path).by_patient == {"A": 61}


def test_a_formula_counts_with_the_value_that_was_saved(tmp_path):
    book(tmp_path, [["patient", "age"], ["A", "=60+1"]])
    with pytest.raises(UserError, match="cell B2: the value of its formula is not saved"):
        read_labels(tmp_path)


def test_excels_text_is_text(tmp_path):
    book(tmp_path, [["patient", "class"], ["NA", "none"], ["B", "null"], [7.0, 2.0]])
    assert read_labels(tmp_path, task="classification").by_patient == {"NA": "none", "B": "null", "7": "2"}


# ---- numbers --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, value", [("0,5", 0.5), ("63,25", 63.25), ("0,123", 0.123), ("1234,5", 1234.5),
                                         (",5", 0.5), ("-1,2000", -1.2), ("1.200", 1.2), ("+3.", 3), ("1e2", 100)])
def test_a_decimal_comma_is_understood(tmp_path, text, value):
    assert labels(tmp_path, f'A,"{text}"', header="patient,label") == {"A": value}


@pytest.mark.parametrize("text", ["1,200", "-63,250"])
def test_what_may_be_thousands_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=rf"row 2: label '{text}' may mean {text.replace(',', '')} or "):
        labels(tmp_path, f'A,"{text}"', header="patient,label")


def test_the_column_tells_what_a_comma_means(tmp_path):
    assert labels(tmp_path, "A;1,200", "B;63,5", header="patient;label") == {"A": 1.2, "B": 63.5}
    with pytest.raises(UserError, match=r"'1\.200' may mean 1200 or 1\.200"):
        labels(tmp_path, "A;1.200", "B;63,5", header="patient;label")


@pytest.mark.parametrize("text", ["1_000", "1,200,300", "1.200,5", "1 200", "1'200", "0x10", "12%"])
def test_other_ways_to_write_a_number_are_refused(tmp_path, text):
    with pytest.raises(UserError, match="is not a number"):
        labels(tmp_path, f'A,"{text}"', header="patient,label")


def test_a_decimal_comma_that_cuts_a_cell_is_refused(tmp_path):
    with pytest.raises(UserError, match="row 2: has more cells than the header has names"):
        labels(tmp_path, "A,63,5")
    assert labels(tmp_path, "A,63,,", "B,,") == {"A": 63, "B": None}
