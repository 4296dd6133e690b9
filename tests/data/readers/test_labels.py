"""Labels from tables as people and data sets write them, and which scan each belongs to."""
import pandas as pd
import pytest
from PIL import Image

from duiit.data.readers import find_scans
from duiit.data.readers.labels import find_labels_file, label_scans, read_labels
from duiit.util.errors import UserError


def table(folder, text, name="labels.csv", encoding="utf-8"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder


def images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / name)
    return find_scans(folder)


def labelled(folder, **options):
    scans = read_labels(folder, **options).attach(find_scans(folder))
    return {scan.name: scan.label for scan in scans}


@pytest.mark.parametrize("text, encoding", [
    ("patient,label\n049,35\n050,0.5\n", "utf-8"), ("\ufeffpatient,label\r\n049,35\r\n050,0.5\r\n", "utf-8"),
    ("Patient;AGE\n49;35\n50;0,5\n", "utf-8"), ('"Patient Number","Age\n(years)"\n"49","35"\n"50","0.5"\n', "utf-8"),
    ("patient\tage\n49\t35\n50\t0.5\n", "utf-16"), ("Größe;Patient;Age\n1;49;35\n1;50;0.5\n", "cp1252"),
    ("patient,age\n49,035Y\n50,006M\n\n,\n", "utf-8"),
])
def test_tables_in_any_dialect(tmp_path, text, encoding):
    table(tmp_path, text, encoding=encoding)
    images(tmp_path, "049/1.png", "050/1.png")
    assert labelled(tmp_path) == {"049": 35, "050": 0.5}


def test_tsv_and_excel(tmp_path):
    images(tmp_path / "a", "p1/1.png", "007/1.png")
    table(tmp_path / "a", "participant_id\tage\np1\t3\n7\t4\n", "participants.tsv")
    assert labelled(tmp_path / "a") == {"007": 4, "p1": 3}
    images(tmp_path / "b", "p1/1.png", "007/1.png")
    pd.DataFrame({"patient": ["p1", 7], "label": [3, 4]}).to_excel(tmp_path / "b" / "labels.xlsx", index=False)
    assert labelled(tmp_path / "b") == {"007": 4, "p1": 3}


def test_head_neck_spreadsheet(tmp_path):
    def sheet(rows):
        footer = [["* at diagnosis", None, None], ["T-stage", "as in", "the paper, 7th ed."], [None, None, None]]
        return pd.DataFrame([["Patient #", "Sex", "Age"], *rows, [None] * 3, *footer])
    with pd.ExcelWriter(tmp_path / "INFOclinical_HN.xlsx") as book:
        for name, rows in (("HGJ", [["HN-HGJ-001", "M", 66], ["HN-HGJ-002", "F", None]]),
                           ("CHUM", [["HN-CHUM-001", "F", 51.5]]), ("Excluded", [["HN-CHUM-009", "F", 99]])):
            sheet(rows).to_excel(book, sheet_name=name, header=False, index=False)
    labels = read_labels(tmp_path)
    assert labels.by_patient == {"HN-HGJ-001": 66, "HN-HGJ-002": None, "HN-CHUM-001": 51.5}
    assert labels.is_age
    assert labels.unmatched(images(tmp_path, "HN-HGJ-001/1.png")) == ["HN-CHUM-001", "HN-HGJ-002"]


def test_a_merged_header_of_two_rows(tmp_path):
    text = '"Patient Number","Age\r\n(years)",Gender,Type,\r\n,,,Subdural,Epidural\r\n' \
           '49,35,Male,1,\r\n130,0.0027,Male,,\r\n,,,,\r\n'
    table(tmp_path, text, "Patient_demographics.csv")
    assert read_labels(tmp_path).by_patient == {"49": 35, "130": 0.0027}
    table(tmp_path, 'Patient Number,Age,Gender\nNo.,(years),M/F\n49,35,Male\n50,6,Female\n', "Patient_demographics.csv")
    assert read_labels(tmp_path).by_patient == {"49": 35, "50": 6}


def test_a_dated_folder_matches_the_undated_id(tmp_path):
    table(tmp_path, "Patient,gender,age_at_initial_pathologic\nTCGA_CS_4941,1,67\nTCGA_HT_A61B,2,\n", "data.csv")
    images(tmp_path, "TCGA_CS_4941_19960909/a_1.png", "TCGA_HT_A61B_19991127/a_1.png")
    assert labelled(tmp_path) == {"TCGA_CS_4941_19960909": 67, "TCGA_HT_A61B_19991127": None}


def test_case_is_kept_and_ambiguous_padding_not_guessed(tmp_path):
    table(tmp_path, "patient,label\np1,1\nP1,2\n7,3\n07,4\n")
    images(tmp_path, "p1/1.png", "P1/1.png", "007/1.png", "7/1.png")
    assert labelled(tmp_path) == {"7": 3, "007": None, "p1": 1, "P1": 2}


def test_a_wrapping_folder_or_a_flat_one_is_seen_through(tmp_path):
    for n, names in enumerate((("imgs/sub-01/1.png", "imgs/sub-02/1.png"), ("imgs/sub-01_1.png", "imgs/sub-02_1.png"))):
        images(tmp_path / str(n), *names)
        table(tmp_path / str(n), "patient,label\nsub-01,1\nsub-02,2\n")
        scans = read_labels(tmp_path / str(n)).attach(find_scans(tmp_path / str(n)))
        assert [(scan.patient, scan.label) for scan in scans] == [("sub-01", 1), ("sub-02", 2)]


def test_file_beats_scan_beats_patient(tmp_path):
    images(tmp_path, "p/1.png", "p/2.png", "q/1.png")
    table(tmp_path, "file,label\np/1.png,5\np\\2.png,\nq/1,7\n")
    p, q = read_labels(tmp_path).attach(find_scans(tmp_path))
    assert [p.label_of(path) for path in p.files] == [5, None] and q.label == 7
    table(tmp_path, "patient,scan,label\np,p,1\nq,x,2\n")
    assert labelled(tmp_path) == {"p": 1, "q": None}


def test_bare_file_names_count_where_they_are_unique(tmp_path):
    images(tmp_path, "p/1.png", "q/1.png", "q/2.png")
    table(tmp_path, "file,label\n1.png,5\n2.png,6\n")
    labels = read_labels(tmp_path)
    p, q = labels.attach(find_scans(tmp_path))
    assert [p.label_of(path) for path in (*p.files,)] == [None] and [q.label_of(path) for path in q.files] == [None, 6]
    assert labels.unmatched(find_scans(tmp_path)) == ["1.png"]


def test_patients_beside_files_split_a_folder(tmp_path):
    images(tmp_path, "out/1.png", "out/2.png", "out/3.png")
    table(tmp_path, "file,patient,label\nout/1.png,A,50\nout/2.png,A,50\nout/3.png,B,60\n")
    scans = read_labels(tmp_path).attach(find_scans(tmp_path))
    assert [(scan.name, scan.patient, len(scan.files), scan.label_of(scan.files[0])) for scan in scans] == [
        ("out/A", "A", 2, 50), ("out/B", "B", 1, 60)]


@pytest.mark.parametrize("text, what", [
    ("patient,label\nA,old\n", "row 2: label 'old'"), ("patient,label\nA,inf\n", "'inf'"),
    ("patient,label\nA,1\nA,2\n", "'A' has two labels"), ("name,size\nA,1\n", "name, size"), ("", "empty"),
])
def test_mistakes_are_named(tmp_path, text, what):
    table(tmp_path, text)
    with pytest.raises(UserError, match=r"labels\.csv") as caught:
        read_labels(tmp_path)
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_columns_may_be_chosen(tmp_path):
    table(tmp_path, "patient,MRN,label,grade\nA,1,5,II\nB,2,6,III\n")
    images(tmp_path, "1/1.png", "2/1.png")
    assert labelled(tmp_path, id_column="mrn") == {"1": 5, "2": 6}
    assert labelled(tmp_path, id_column="MRN", label_column="grade", task="classification") == {"1": "II", "2": "III"}
    with pytest.raises(UserError, match="label_column"):
        read_labels(tmp_path, label_column="weight")


def test_classes_stay_text(tmp_path):
    table(tmp_path, "patient,class\nA,1\nB,none\nC,\n")
    assert read_labels(tmp_path, task="classification").by_patient == {"A": "1", "B": "none", "C": None}


def test_no_table_is_none_and_tables_without_labels_are_passed_over(tmp_path):
    assert read_labels(tmp_path) is None
    table(tmp_path, "PatientNumber,SliceNumber,Epidural\n49,1,0\n", "hemorrhage_diagnosis.csv")
    (tmp_path / "broken.xlsx").write_bytes(b"no workbook")
    assert find_labels_file(tmp_path) is None
    table(tmp_path / "sub", "patient,age\nA,1\n", "clinical.csv")
    assert find_labels_file(tmp_path) == tmp_path / "sub" / "clinical.csv"


def test_ages_of_the_headers_stand_in_only_for_ages(tmp_path):
    import pydicom
    from pydicom.data import get_testdata_file
    ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    ds.PatientAge = "018M"
    (tmp_path / "p").mkdir()
    ds.save_as(tmp_path / "p" / "1.dcm")
    scans = find_scans(tmp_path)
    assert label_scans(scans, tmp_path)[0].label == 1.5
    assert label_scans(scans, tmp_path, task="classification")[0].label is None
    assert label_scans(scans, tmp_path, label_column="weight")[0].label is None
    table(tmp_path, "patient,label\nsomebody,3\n")
    assert label_scans(scans, tmp_path)[0].label is None
    table(tmp_path, "patient,age\n1CT1,3\n")
    assert label_scans(scans, tmp_path)[0].label == 3
