"""The report's files for a paper: under names that stay apart, and no more than the last report wrote."""
from duiit_cli.experiments.reporting import formatting
from duiit_cli.experiments.reporting.exporting import write_exhibits
from duiit_cli.experiments.reporting.page import Table


def table(name, value=1):
    return Table(name, "", ["method", "value"], [["PURE-CT", value]])


def names(folder):
    return {p.name for p in folder.rglob("*") if p.is_file()}


def test_titles_in_any_script_have_files_of_their_own(tmp_path):
    titles = ["Table 3, 磁 → CT", "Table 3, 像 → CT", "Table 3, MR → CT", "Table 3, mr → CT"]
    written = write_exhibits(tmp_path, [table(formatting.file_name(t), n) for n, t in enumerate(titles)])
    assert written[::2] == ["tables/table_3_磁_ct.csv", "tables/table_3_像_ct.csv", "tables/table_3_mr_ct.csv",
                            "tables/table_3_mr_ct_2.csv"]
    assert [(tmp_path / name).read_text().splitlines()[1] for name in written[::2]] == [
        f"PURE-CT,{n}" for n in range(4)]


def test_a_report_takes_away_what_it_writes_no_more_and_nothing_else(tmp_path):
    write_exhibits(tmp_path, [table("time"), table("errors_pet")])
    (tmp_path / "tables" / "mine.csv").write_text("kept")
    write_exhibits(tmp_path, [table("time")])
    assert names(tmp_path / "tables") == {"time.csv", "time.tex", "mine.csv"}


def test_a_list_that_somebody_wrote_removes_nothing_elsewhere(tmp_path):
    (tmp_path / "E" / "tables").mkdir(parents=True)
    for file in ("results.csv", "tables/notes.txt", "../other.csv"):
        (tmp_path / "E" / file).write_text("kept")
    for listed in ('["results.csv", "tables/../results.csv", "tables/notes.txt", "../other.csv", 1]', "{", "3"):
        (tmp_path / "E" / "exhibits.json").write_text(listed)
        write_exhibits(tmp_path / "E", [table("time")])
    assert {"results.csv", "notes.txt"} <= names(tmp_path / "E") and (tmp_path / "other.csv").is_file()
