"""The paper's tables cell by cell against its own text, and the forms a table is saved in."""

import csv
import io
import re
from itertools import chain
from pathlib import Path

import pytest
import tabulate
from families import family, protocol, result, write_protocol

from sa_ah_lib.analysis.results import MissingData
from sa_ah_lib.analysis.stats import half_width
from sa_ah_lib.analysis.table import DASH, Table, markdown_table
from sa_ah_lib.paper import printed
from sa_ah_lib.report import own_tables, paper_tables

EXTRACT = Path(__file__).parents[1] / "data" / "paper_tables.txt"
LARGE, SMALL = printed.family(printed.LARGE), printed.family(printed.SMALL)


def extract(number):
    """The lines of one table below its caption, each formula once and read as plain text."""
    block = re.search(rf"^Table {number}: .*\n((?:.+\n)+)", EXTRACT.read_text(encoding="utf-8"), re.M)[1]
    text = re.sub(r"(\d\.\d{3})±(\d\.\d{3})\S*\\pm \d\.\d{3}\}?", r"\1 ± \2", block)
    text = re.sub(r"^\d\.\d\d(?:\\phantom\{-\})?(-?\d\.\d\d) ", r"\1 ", text, flags=re.M)
    text = re.sub(r"\n\s+\(180 steps\)", "", text)  # a row of Table 5 that takes two lines
    return re.sub(r"(\d\.\d\d?)\1", r"\1", text.replace("α\\alpha", "α")).splitlines()


def numbers(cells):
    """Every number as it is printed, signs and trailing zeros included, in order."""
    return re.findall(r"(?<![\w.@])-?\d+(?:\.\d+)?(?![\w.])", " ".join(cells).replace("−", "-"))


def test_the_extract_is_read_as_intended():
    """A reader that drops numbers would make every comparison below pass."""
    counts = {n: sum(len(numbers([line])) for line in extract(n)) for n in range(2, 8)}
    assert counts == {2: 2 * (2 + 3 * 8), 3: 6 + 3 + 16, 4: 6 + 3 + 16, 5: 5 + 6 * 8, 6: 69, 7: 69}


def test_table_1_has_the_paper_s_rows():
    """Each hyperparameter by name and value, in the paper's order."""
    lines, made = extract(1)[1:], paper_tables.hyperparameters([LARGE, SMALL])
    assert made.header == ["Hyperparameter", "paper"] and len(lines) == len(made.rows) == 15
    formulas = {"Learning rate": r"5×1065\times 10^{-6}", "Warmup steps": r"\max(5,\lfloor\text{steps}/10\rfloor)"}
    for line, (name, value) in zip(lines, made.rows, strict=True):
        words = [word for word in re.findall(r"[A-Za-z-]+", name.split("N_")[0]) if len(word) > 1]
        assert line.startswith(" ".join(words)) and line.endswith(formulas.get(name, f" {value}"))
    values = dict(made.rows)
    assert (values["Learning rate"], values["Warmup steps"]) == ("5×10⁻⁶", "max(5, ⌊steps/10⌋)")


def test_table_2_cell_by_cell():
    """As published: half-widths that do not follow from the formula and the repeated 3B numbers are kept."""
    lines, made = extract(2)[1:], paper_tables.summary([LARGE, SMALL])
    for line, (model, *cells) in zip(lines, made.rows, strict=True):
        model = re.search(r"-([\d.]+B)-", model)[1]
        assert numbers(cells) == numbers([line.removeprefix(f"{model} ")])
        assert re.search(rf"^(?:{model} )?{re.escape(cells[0])}", line)
    bases = [row for row in made.rows if "zero-shot" in row[1]]
    assert [row[5:] for row in bases] == [[DASH] * 3] * 2 and [row[2:4] for row in bases] == [[DASH] * 2] * 2


def test_the_slips_are_printed_as_published():
    """Recomputed in silence, Table 2 would no longer be the paper's."""
    slips = [("0.831", "0.032"), ("0.848", "0.032")]
    cells = set(chain(*paper_tables.summary([LARGE]).rows))
    for rate, half in slips:
        assert f"{half_width(float(rate), 500):.3f}" != half and f"{rate} ± {half}" in cells
    variance = [[row[6] for row in paper_tables.summary([f]).rows[1:3]] for f in (LARGE, SMALL)]
    assert variance[0] == variance[1] == ["0.0885", "0.0630"]


@pytest.mark.parametrize("number,source", [(3, LARGE), (4, SMALL)])
def test_tables_3_and_4_cell_by_cell(number, source):
    """Rates to three digits, a dash where a run did not extend to the step."""
    lines, made = extract(number), paper_tables.checkpoints(source)
    assert made.name == f"table-{number}" and numbers(made.header) == numbers([lines[1]])
    assert [numbers(row) for row in made.rows] == [numbers([line]) for line in lines[2:]]
    assert [row[0] for row in made.rows] == [re.match(r".*?\)", line)[0] for line in lines[2:]]
    assert [row[-1] == DASH for row in made.rows] == [True, True, False] and any("extend" in n for n in made.notes)


def test_table_5_cell_by_cell():
    """alpha ascending, peak before final, SA-AH-GRPO below with its own 180 steps."""
    lines, made = extract(5), paper_tables.alphas(SMALL)
    assert numbers(made.header) == numbers([lines[1]]) and made.header[-2:] == ["Peak", "Final"]
    assert [numbers(row) for row in made.rows] == [numbers([line]) for line in lines[2:]]
    assert "180 steps" in made.notes[1]


def test_bold_and_footnotes_are_the_paper_s(measured):
    """Without them a reader takes a partial run for a whole one; on our numbers they would be the paper's opinion."""
    made = paper_tables.summary([LARGE, SMALL])
    assert [(made.rows[i][0], made.rows[i][1], made.header[j], made.rows[i][j]) for i, j in made.bold] == [
        ("Qwen 2.5-1.5B-Instruct", "SA-AH-GRPO", f"Pass@1 {which}", "0.686 ± 0.041") for which in ("final", "peak")
    ]
    assert made.markdown.count("**0.686 ± 0.041**") == 2 and made._repr_html_().count("<b>0.686 ± 0.041</b>") == 2
    assert made.latex().count(r"\textbf{0.686 $\pm$ 0.041}") == 2 and "*" not in made.csv
    partial = paper_tables.alphas(SMALL)
    assert [row[0] for row in partial.rows if "†" in row[0]] == ["0.25†"] and partial.notes[0].startswith("† A partial")
    assert r"0.25$^{\dagger}$" in partial.latex()
    assert paper_tables.summary([measured]).bold == ()
    ours = paper_tables.alphas(measured)
    assert not any("†" in text for text in chain(*ours.rows, ours.notes))
    for source in (LARGE, measured):
        made = paper_tables.diagnostics(source)
        assert all(f"{name}: " in made.notes[0] for name in made.header[2:])


@pytest.mark.parametrize("source,base,lowered", [(LARGE, 0.846, 0.831), (SMALL, 0.652, 0.637)])
def test_differences_from_the_base_are_from_the_evaluated_one(source, base, lowered):
    """0.637 of 500 is 318.5 answers: rounded, and lowered by hand, it was another base than the claims'."""
    made = own_tables.comparisons(source)
    rows = {row[0]: row[2] for row in made.rows}
    for method, label in (("grpo", "GRPO"), ("sa-ah-grpo", "SA-AH-GRPO")):
        correct, total = source.methods[method].final
        assert rows[f"{label} − Base (zero-shot)"] == f"{correct / total - base:+.3f}"
    assert f"The base is {base}, as evaluated" in made.notes[1]


def test_equal_answers_have_an_interval():
    """[+0.000, +0.000] of twenty problems says that two policies are equal, which no twenty problems can."""
    same = {30: [False] * 20}
    runs = [result(m, [0.0], total=20, answers=same) for m in ("grpo", "sa-ah-grpo")]
    made = own_tables.comparisons(family(*runs))
    assert made.rows[0][2:] == ["+0.000", "[-0.126, +0.126]", "1.000", "McNemar, Bonett-Price"]


@pytest.mark.parametrize("number,source", [(6, LARGE), (7, SMALL)])
def test_tables_6_and_7_cell_by_cell(number, source):
    """Five digits of KL, two of f, none of length; no Pass@1 before the first checkpoint."""
    lines, made = extract(number)[1:], paper_tables.diagnostics(source)
    assert made.name == f"table-{number}" and made.rows[0][1] == DASH
    assert [numbers(row) for row in made.rows] == [numbers([line]) for line in lines]


def test_the_two_sources_never_share_a_table_without_saying_so():
    """A caption that names one source over numbers of the other is the worst mislabelling there is."""
    t = paper_tables
    for made in (t.summary([LARGE, SMALL]), t.checkpoints(LARGE), t.diagnostics(SMALL)):
        assert re.match(r"Table \d: .*\. paper: Qwen 2\.5-[\d.]+B-Instruct on GSM8K, seed 123", made.caption)
        assert "measured" not in made.caption and printed.CITATION in made.caption


# --- measured tables -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    from sa_ah_lib.analysis import loading

    directory = tmp_path_factory.mktemp("runs")
    write_protocol(directory)
    (found,) = loading.load(directory).families
    return found


def test_a_measured_table_1_marks_what_differs():
    """A micro model under Table 1's name would pass for the paper's setting."""
    made = paper_tables.hyperparameters([family(result("grpo", learning_rate=2e-4))])
    rows = {name: (theirs, ours) for name, theirs, ours in made.rows}
    assert rows["Learning rate"] == ("5×10⁻⁶", "2×10⁻⁴ *") and rows["KL penalty β"] == ("0.04", "0.04")
    assert rows["Completions per prompt G"] == ("4", "8 *") and made.notes


def test_a_measured_table_2_by_hand():
    """Final is the last checkpoint and peak the best; half-widths by Section 4.4's formula, over our own N."""
    runs = result("grpo", [0.5, 0.8, 0.6], rewards=[9, 9, 1, 3], base=0.25)
    rows = paper_tables.summary([family(runs)]).rows
    assert rows[0] == ["micro-s, N = 100", "Base (zero-shot)", DASH, DASH, "0.250 ± 0.085", DASH, DASH, DASH]
    assert rows[1] == ["micro-s, N = 100", "GRPO", "0.0", "150", "0.600 ± 0.096", "0.800 ± 0.078", "1.0000", DASH]


def test_a_run_that_was_never_evaluated_leaves_the_others_their_table():
    """TRL's trainer_state.json has no Pass@1; imported, it must not cost all other runs their rows."""
    mixed = family(result("grpo", [0.5, 0.6]), result("ah-grpo", rewards=range(8)), result("sa-ah-grpo", [0.6, 0.7]))
    rows = {row[1]: row for row in paper_tables.summary([mixed]).rows}
    assert rows["AH-GRPO"][4:6] == [DASH, DASH] and rows["SA-AH-GRPO"][4].startswith("0.700")
    assert [row[0] for row in own_tables.peaks(mixed).rows] == ["GRPO", "SA-AH-GRPO"]
    assert own_tables.comparisons(mixed).rows[0][0] == "SA-AH-GRPO − GRPO"
    sweep = family(*(result("ah-grpo", [0.5], alpha=a) for a in (0.1, 0.25)), result("grpo", [0.5]),
                   result("ah-grpo", rewards=range(8)))  # fmt: skip
    assert len(paper_tables.alphas(sweep).rows) == 3


def test_lengths_of_checkpoints_that_differ_leave_a_dash():
    """One lost line of eval.jsonl must not cost the peaks of all methods."""
    ragged = {30: [True] * 8, 60: [True] * 7}
    made = own_tables.peaks(family(result("grpo", [0.5, 0.6], answers=ragged)))
    assert made.rows[0][-1] == DASH


@pytest.mark.parametrize("make,subject,missing", [
    (paper_tables.checkpoints, family(result("grpo")), "checkpoint"),
    (paper_tables.alphas, LARGE, "fewer than three values of alpha"),
    (paper_tables.diagnostics, family(result("grpo", [0.5])), "sa-ah-grpo"),
    (own_tables.comparisons, family(result("grpo", [0.5])), "two evaluated methods"),
    (own_tables.variances, SMALL, "step by step rewards"),
    (paper_tables.summary, [], "no run"),
    (own_tables.peaks, family(result("zero-shot", base=0.5)), "evaluated run"),
])  # fmt: skip
def test_what_a_source_lacks_is_said(make, subject, missing):
    """A table filled up with blanks would look like a run that gave nothing."""
    with pytest.raises(MissingData, match=missing):
        make(subject)


def test_differences_name_their_test_and_steps(measured):
    """A paired test on unpaired counts, or another step than printed, is another number."""
    made = own_tables.comparisons(measured)
    rows = {(row[0], row[1]): row for row in made.rows}
    assert set(rows) == {
        ("AH-GRPO − GRPO", "150"), ("SA-AH-GRPO − GRPO", "150"), ("SA-AH-GRPO − GRPO", "180, 150"),
        ("SA-AH-GRPO − AH-GRPO", "150"), ("SA-AH-GRPO − AH-GRPO", "180, 150"), ("GRPO − Base (zero-shot)", "150"),
        ("AH-GRPO − Base (zero-shot)", "150"), ("SA-AH-GRPO − Base (zero-shot)", "180"),
    }  # fmt: skip
    a, b = (measured.methods[m] for m in ("sa-ah-grpo", "grpo"))
    gap = a.answers[180].mean() - b.answers[150].mean()
    row = rows["SA-AH-GRPO − GRPO", "180, 150"]
    assert row[2] == f"{gap:+.3f}" and row[-1].startswith("McNemar") and "(8)" in made.notes[0]
    assert {row[-1] for row in own_tables.comparisons(SMALL).rows} == {"two-proportion z, Newcombe"}


def test_parts_of_the_variance_add_up(measured):
    """Parts of another window or normalisation would not sum to the printed variance."""
    for row in own_tables.variances(measured).rows:
        assert sum(map(float, row[3:])) == pytest.approx(float(row[1]), abs=3e-4)


# --- forms -----------------------------------------------------------------------------------------------------------

SAMPLE = Table("table-x", "Table X: 100% of a_b & $", ["α", "Pass@1"], [["H̄ 10⁻⁶", "0.5 ± 0.1"], ["a & b_c", DASH]],
               ("note_1 ± #2",))  # fmt: skip


def test_csv_holds_numbers_alone():
    """A spreadsheet reads '0.5 ± 0.1' and a dash as text."""
    rows = list(csv.reader(io.StringIO(SAMPLE.csv)))
    assert rows == [["α", "Pass@1", "Pass@1 ±"], ["H̄ 10⁻⁶", "0.5", "0.1"], ["a & b_c", "", ""]]


def test_latex_is_escaped_and_ascii():
    """One & or a bare unicode sign stops a paper's build."""
    made = SAMPLE.latex("paper-")
    assert made.isascii() and r"\label{tab:paper-table-x}" in made and r"\toprule" in made and r"\bottomrule" in made
    assert r"100\% of a\_b \& \$" in made and r"a \& b\_c" in made and r"note\_1 $\pm$ \#2" in made
    assert r"0.5 $\pm$ 0.1" in made and r"$\bar H$ 10$^{-}$$^{6}$" in made


def test_latex_numbers_the_table_alone():
    """LaTeX writes "Table 1:" before every caption: ours made it "Table 1: Table X: ..."."""
    assert r"\caption{100\% of a\_b \& \$}" in SAMPLE.latex() and SAMPLE.markdown.startswith("**Table X: 100%")


def test_every_special_character_is_escaped_everywhere():
    """A path with ~ or a formula with ^ in a caption, note or cell stops a paper's build, or prints another text."""
    text = r"C:\a~b^c{d}<1>&%$#_"
    made = Table("t", text, [text], [[text]], (text,)).latex()
    escaped = r"C:\textbackslash{}a\textasciitilde{}b\textasciicircum{}c\{d\}\ensuremath{<}1\ensuremath{>}\&\%\$\#\_"
    assert made.count(escaped) == 4


def test_a_negative_number_has_a_minus_and_a_word_its_hyphen():
    made = Table("t", "SA-AH on 2026-11-24", ["gain"], [["-0.5 [-1, +2]"]]).latex()
    assert "$-$0.5 [$-$1, +2]" in made and "SA-AH on 2026-11-24" in made


def test_every_table_s_latex_is_ascii(measured):
    """A sign that the replacement list lacks is found in another's LaTeX run, not here."""
    both = [paper_tables.summary, paper_tables.hyperparameters]
    one = [paper_tables.alphas, own_tables.comparisons, own_tables.peaks]
    made = [f(s) for f in both for s in ([LARGE, SMALL], [measured])]
    made += [f(s) for f in one for s in (SMALL, measured)]
    made += [f(s) for f in (paper_tables.checkpoints, paper_tables.diagnostics) for s in (LARGE, SMALL, measured)]
    for table in [*made, own_tables.variances(measured)]:
        text = table.latex()
        assert text.isascii(), {c for c in text if not c.isascii()}
        assert text.count("{") == text.count("}") and text.replace("\\$", "").count("$") % 2 == 0


def test_html_is_escaped():
    """Captions hold device names and paths: anybody's text."""
    page = Table("t", "<script>", ["<b>"], [["<i>"]], ("<u>",))._repr_html_()
    assert not re.search(r"<(script|i|u)>|<th[^>]*><b>", page) and "&lt;script&gt;" in page


def test_numbers_stand_right_and_words_left():
    """A notebook sets every cell right, unless it says otherwise: words then have a ragged left edge."""
    rows = [["GRPO", "-0.5", "× 1.1 [0.9, 1.2]", "supported", "+1.7 points"], ["AH", DASH, "<0.001", DASH, "0/20"]]
    made = Table("t", "c", ["arm", "gain", "ratio", "verdict", "points"], rows)
    sides = ["left", "right", "right", "left", "right"]
    cells = re.findall(r"<t[hd]( style='text-align:left')?>", made._repr_html_())
    assert ["left" if style else "right" for style in cells] == sides * 3
    assert r"\begin{tabular}{lrrlr}" in made.latex()
    bars = made.markdown.splitlines()[3].strip("|").split("|")
    assert ["right" if bar.endswith(":") else "left" for bar in bars] == sides


def test_markdown_has_the_same_padding_with_and_without_wcwidth(monkeypatch):
    """The package comes with IPython: a machine that lacks it wrote other bytes into figures/."""
    pytest.importorskip("wcwidth")
    rows = [["H̄ 日本", "1"], ["r", "2"]]
    here, chosen = markdown_table(["a", "b"], rows), tabulate.WIDE_CHARS_MODE
    monkeypatch.setattr(tabulate, "wcwidth", None)
    assert markdown_table(["a", "b"], rows) == here and tabulate.WIDE_CHARS_MODE is chosen
    assert len({len(line) for line in here.splitlines()}) == 1


def test_a_bar_or_a_line_break_stays_in_its_markdown_cell():
    assert markdown_table(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"
    assert markdown_table(["a"], []).startswith("| a")


def test_a_table_is_saved_in_three_forms(tmp_path):
    paths = SAMPLE.save(tmp_path / "deep" / "micro-s")
    assert [path.name for path in paths] == ["table-x.md", "table-x.csv", "table-x.tex"]
    assert paths[0].read_text(encoding="utf-8") == SAMPLE.markdown and "tab:micro-s-table-x" in paths[2].read_text()
    assert re.search(r"\| a & b_c \| +— \|", SAMPLE.markdown) and SAMPLE.markdown.endswith("note_1 ± #2\n")


def test_the_protocol_of_the_fixtures_is_the_paper_s():
    """These tests mean little on runs that the notebooks would not make."""
    assert [(c.method, c.alpha, c.steps) for c in protocol()] == [
        ("grpo", 0, 150),
        ("ah-grpo", 0.5, 150),
        ("sa-ah-grpo", 0.5, 180),
        *(("ah-grpo", a, 150) for a in (-0.25, 0.1, 0.25)),
    ]
