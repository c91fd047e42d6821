"""The table of version sets: what it says must be what is pinned, and notebook 00 must read it."""

import re
from pathlib import Path

import pytest

from sa_ah_lib.upstream import versions

ROOT = Path(__file__).parents[2]


def test_the_installed_set_is_in_the_table_and_holds():
    """Numbers measured with a set that nobody recorded."""
    found = versions.installed()
    if "not installed" in found.values():
        pytest.skip("not everything is installed here")
    known = versions.known_set()
    assert known is not None and known.holds, f"{found} is not a recorded set that held; run the tests and record it"


def test_no_set_is_recorded_twice_and_each_says_when_and_what():
    """Two rows of one set would let it hold and fail at once."""
    rows = [tuple(known.versions.items()) for known in versions.SETS]
    assert len(rows) == len(set(rows)) and versions.PINNED.holds
    for known in versions.SETS:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", known.date) and known.ran and known.found


def test_the_older_set_is_the_one_that_make_test_older_installs():
    """A row that says "holds" of a set that nothing can run again."""
    text = (ROOT / "requirements-older.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M))
    known = versions.known_set({package: pins[package] for package in versions.PACKAGES})
    assert known in versions.SETS[1:] and known.holds


def test_the_remedy_names_what_is_installed_and_what_to_install(monkeypatch):
    """An error about versions that leaves the reader to find them out."""
    strange = {**versions.PINNED.versions, "trl": "0.1.0"}
    monkeypatch.setattr(versions, "version_of", strange.get)
    text = versions.remedy()
    assert "trl 0.1.0" in text and "never run by this project" in text and f"trl=={versions.PINNED.trl}" in text


@pytest.fixture
def version_checks():
    if versions.installed() != versions.PINNED.versions:
        pytest.skip("notebook 00 is tested with the pinned set; older releases of Unsloth do not import without a GPU")
    from sa_ah_lib.report import checks

    return checks.version_checks


def test_notebook_00_passes_any_set_that_held(version_checks):
    for known in versions.SETS:
        rows = {row.name: row for row in version_checks(known.versions)}
        assert rows["the set of versions"].passed == known.holds
        assert known.date in rows["the set of versions"].found and known.found in rows["the set of versions"].found
        if known.holds:
            assert all(rows[package].passed for package in versions.PACKAGES)


def test_notebook_00_fails_a_set_that_was_never_run(version_checks):
    """Two versions that hold in different sets need not hold together."""
    rows = {row.name: row for row in version_checks({**versions.PINNED.versions, "trl": "0.1.0"})}
    assert not rows["the set of versions"].passed and "never run" in rows["the set of versions"].found
    assert not rows["trl"].passed and rows["trl"].remedy == f"pip install trl=={versions.PINNED.trl}"
    assert rows["transformers"].passed


def test_notebook_00_passes_another_torch_that_unsloth_allows_and_says_so(version_checks):
    """Hosted machines bring their own torch; replacing it there would cost gigabytes and a restart."""
    rows = {row.name: row for row in version_checks({**versions.PINNED.versions, "torch": "2.11.0"})}
    assert all(row.passed for row in rows.values())
    assert "torch 2.11.0 never run here" in rows["the set of versions"].found
    rows = {row.name: row for row in version_checks({**versions.PINNED.versions, "torch": "2.99.0"})}
    assert not rows["torch"].passed and not rows["the set of versions"].passed
    rows = {row.name: row for row in version_checks(dict.fromkeys(versions.PACKAGES, versions.MISSING))}
    assert not any(rows[package].passed for package in versions.PACKAGES)
