"""Whatever table a program writes, the labels that were put in come out, or an error: never another number."""
import csv
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duiit.data.readers.labels import read_labels
from duiit.util.errors import UserError

QUICK = settings(derandomize=True, database=None, deadline=None, max_examples=50,
                 suppress_health_check=[HealthCheck.too_slow])
PER_YEAR = {"age": 1, "Age (years)": 1, "AGE": 1, "age_at_scan": 1, "label": 1, "age_months": 12,
            "Age [weeks]": 365.25 / 7, "age_days": 365.25}
IDS = ["patient", "Patient ID", "PATIENT_ID", "subject", "participant_id", "Patient #", "id"]
OTHERS = ["身高", "вес", "Größe", "weight", "Weight, kg", "a;b", "age_of_onset", "age_group", "sex", "50%",
          'so "called"']

words = st.text("abzABZ019-_. éж龄", min_size=1, max_size=6).map(lambda text: " ".join(text.split())).filter(bool)
numbers = st.integers(1, 9999).map(str) | st.integers(0, 99).map("{:03d}".format)
ids = st.lists(words | numbers, min_size=1, max_size=6, unique_by=str.casefold)
values = st.one_of(st.integers(0, 120), st.floats(0, 120).map(lambda x: round(x, 3)), st.floats(-1e4, 1e4), st.none(),
                   st.integers(1000, 2000000))


@st.composite
def tables(draw):
    """(a frame with columns in any order, the id's column, the label's, {id: what is to be read})."""
    names = draw(ids)
    labels = [draw(values) for _ in names]
    who, what = draw(st.sampled_from(IDS)), draw(st.sampled_from([*PER_YEAR, "年龄", "возраст"]))
    frame = {who: names, what: pd.Series(labels, dtype=object)}
    for other in draw(st.lists(st.sampled_from(OTHERS), max_size=3, unique=True)):
        frame[other] = draw(st.lists(values, min_size=len(names), max_size=len(names)))
    order = draw(st.permutations(list(frame)))
    scale = PER_YEAR.get(what, 1)
    return pd.DataFrame(frame)[order], who, what, {n: None if v is None else v / scale for n, v in
                                                   zip(names, labels, strict=True)}


def check(path, what, wanted, may_refuse):
    try:
        found = read_labels(path, label_column=None if what in PER_YEAR else what).by_patient
    except UserError as error:
        assert may_refuse, error
        return
    assert set(found) <= set(wanted)
    for name, value in wanted.items():
        got = found.get(name)
        assert got == value or (got is not None and value is not None and math.isclose(got, value, rel_tol=1e-12)), name


@QUICK
@given(tables(), st.data())
def test_a_csv_file_gives_what_was_put_in(made, data):
    frame, _, what, wanted = made
    decimal, style = data.draw(st.sampled_from(".,")), data.draw(st.sampled_from(["plain", "plain", "thousands"]))
    if style == "thousands":
        frame = frame.assign(**{what: [None if v is None else f"{v:,}" for v in wanted_cells(frame, what)]})
    elif decimal == ",":
        frame = frame.assign(**{what: [None if v is None else str(v).replace(".", ",") for v in frame[what]]})
    options = {"sep": data.draw(st.sampled_from(",;\t")), "na_rep": data.draw(st.sampled_from(["", "NA", "nan", "-"])),
               "encoding": data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
               "lineterminator": data.draw(st.sampled_from(["\n", "\r\n"])),
               "quoting": data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))}
    odd = any(mark in name for name in frame.columns for mark in ",;")
    with TemporaryDirectory() as folder:
        frame.to_csv(Path(folder, "labels.csv"), index=False, **options)
        check(Path(folder), what, wanted, decimal == "," or style == "thousands" or odd)


def wanted_cells(frame, what):
    return [None if v is None or v != v else v for v in frame[what]]


@QUICK
@given(tables(), st.booleans())
def test_an_excel_file_gives_what_was_put_in(made, merge):
    frame, who, what, wanted = made
    book = openpyxl.Workbook()
    book.active.append(list(frame.columns))
    for row in frame.astype(object).itertuples(index=False, name=None):
        book.active.append([None if cell is None or cell != cell else cell for cell in row])
    column, start = frame.columns.get_loc(what) + 1, 2
    labels = [book.active.cell(row, column).value for row in range(2, len(frame) + 2)]
    for row in range(3, len(frame) + 3) if merge else ():               # runs of one label become one cell
        if row == len(frame) + 2 or labels[row - 2] != labels[start - 2]:
            book.active.merge_cells(start_row=start, end_row=row - 1, start_column=column, end_column=column)
            start = row
    with TemporaryDirectory() as folder:
        book.save(Path(folder, "labels.xlsx"))
        check(Path(folder), what, wanted, may_refuse=False)


@QUICK
@given(st.lists(st.tuples(st.integers(1, 120), st.sampled_from("YMWD")), min_size=1, max_size=5))
def test_age_strings_are_years(ages):
    years = {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25}
    with TemporaryDirectory() as folder:
        rows = [f"p{n},{age:03d}{unit}" for n, (age, unit) in enumerate(ages)]
        Path(folder, "labels.csv").write_text("\n".join(["patient,age_months", *rows]), encoding="utf-8")
        check(Path(folder), "age", {f"p{n}": age / years[unit] for n, (age, unit) in enumerate(ages)}, False)
