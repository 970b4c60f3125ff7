"""CITATION.cff is what a reader of the Citation File Format 1.2.0 takes, and of this version."""

from pathlib import Path

import pytest
import yaml

import elmo_jax

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version(citation):
    assert citation["version"] == elmo_jax.__version__
    assert (citation["title"], citation["license"]) == ("elmo_jax", "Apache-2.0")


def test_the_citation_has_what_the_format_requires(citation):
    assert citation["cff-version"] == "1.2.0"
    paper = citation["preferred-citation"]
    assert {"message", "title", "authors"} <= citation.keys()
    assert {"type", "title", "authors"} <= paper.keys()
    # Numbers that YAML would read as such are strings in the format.
    assert all(isinstance(citation[key], str) for key in ("cff-version", "message", "version"))
    for person in paper["authors"]:
        assert person.keys() == {"given-names", "family-names"}


def test_the_paper_is_cited_in_full(citation):
    paper = citation["preferred-citation"]
    assert [person["family-names"] for person in paper["authors"]] == [
        *("Peters", "Neumann", "Iyyer", "Gardner", "Clark", "Lee", "Zettlemoyer")
    ]
    assert (paper["year"], paper["doi"]) == (2018, "10.18653/v1/N18-1202")
