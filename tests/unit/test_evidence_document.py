"""The evidence's page: its tables stand between markers, and are what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes.evidence.table import __main__ as command
from recipes.evidence.table import committed, markers
from tests.unit.evidence_results import result, two_pairs, write

TEXT = "# A\n\n| by | hand |\n\n<!-- table: one -->\nold\nold\n<!-- end -->\n\n<!-- a remark -->\nmore\n"


def test_only_what_stands_between_markers_changes():
    made = markers.filled(TEXT, {"one": "| new |", "two": "nowhere"})
    assert made == TEXT.replace("old\nold\n", "\n| new |\n\n")
    assert markers.filled(made, {"one": "| new |"}) == made
    assert markers.names_of(made) == ["one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- table: three -->\n<!-- end -->\n", "no table 'three'; there are one, two"),
        ("<!-- table: one -->\nold\n", "'one' has no `<!-- end -->`"),
        ("<!-- table: one -->\n<!-- table: two -->\n<!-- end -->\n", "'one' has no `<!-- end -->`"),
    ],
)
def test_a_marker_that_nothing_can_be_written_to_is_named(text: str, words: str):
    with pytest.raises(ValueError, match=re.escape(words)):
        markers.filled(text, {"one": "1", "two": "2"})


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["table", *map(str, arguments)])
    return command.main()


def test_the_command_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    folder = two_pairs(tmp_path / "results")
    document = folder / "evidence.md"
    assert run(monkeypatch, "--results", folder, "--check") == 1
    assert not document.exists()
    assert run(monkeypatch, "--results", folder) == 0
    assert run(monkeypatch, "--results", folder, "--check") == 0
    assert (folder / "evidence-levels.png").stat().st_size > 1000
    capsys.readouterr()
    write(folder, [result("care", 2, 0.9, 0.9)])
    assert run(monkeypatch, "--results", folder, "--check") == 1
    told = capsys.readouterr()
    assert "+| CARE | 3 |" in told.out
    assert "python -m recipes.evidence.table" in told.err


def test_a_folder_without_results_is_an_error_unless_it_is_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert run(monkeypatch, "--results", tmp_path) == 2
    assert "holds no results" in capsys.readouterr().err
    monkeypatch.setattr(command, "PAGES", {tmp_path: [tmp_path / "new.md"]})
    assert run(monkeypatch) == 0
    assert (tmp_path / "new.md").read_text().count(command.NONE_YET) == len(command.TABLES)


def test_the_repositorys_documents_are_what_its_results_say(monkeypatch: pytest.MonkeyPatch):
    assert run(monkeypatch, "--check") == 0
    monkeypatch.chdir(command.DOCS)
    assert run(monkeypatch, "--results", "../recipes/evidence/results", "--check") == 0
    names = {results.name: _names(documents) for results, documents in command.PAGES.items()}
    assert sorted(names["results"]) == sorted(command.TABLES)  # each in one place
    assert set(names["results_hole"]) <= set(command.TABLES)


def _names(documents: list[Path]) -> list[str]:
    return [name for path in documents for name in markers.names_of(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("results", "page"), [(r, page) for r, pages in command.PAGES.items() for page in pages])
def test_a_documents_pictures_are_there(results: Path, page: Path):
    if committed.read(results) is None:
        pytest.skip(f"{results.name} has no results yet, of which pictures could be drawn")
    pictures = re.findall(r"\]\(((?:docs/)?evidence-[a-z-]+\.png)\)", page.read_text(encoding="utf-8"))
    assert pictures
    assert all((page.parent / name).exists() for name in pictures)
