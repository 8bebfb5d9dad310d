"""MovieLens: years and articles in titles, genres, and the old files with `::` in Latin-1."""

from datetime import datetime
from pathlib import Path

import pytest

from import_exports import ExportOf, only


@pytest.mark.parametrize("export", ["movielens", "movielens-1m"])
def test_titles_lose_their_year_and_articles_come_first(export: str, export_of: ExportOf) -> None:
    _, tables = export_of(export)
    items = only(tables["items"], "item_id", "title", "year", "category")
    assert [row for row in items if row[0] != "171749"] == [
        ("1", "Toy Story", 1995, ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]),
        ("6", "Heat", 1995, ["Action", "Crime", "Thriller"]),
        ("11", "The American President", 1995, ["Comedy", "Drama", "Romance"]),
        (
            "29",
            "The City of Lost Children (Cité des enfants perdus, La)",
            1995,
            ["Adventure", "Drama", "Fantasy", "Mystery", "Sci-Fi"],
        ),
        ("47", "Seven (a.k.a. Se7en)", 1995, ["Mystery", "Thriller"]),
        ("260", "Star Wars: Episode IV - A New Hope", 1977, ["Action", "Adventure", "Sci-Fi"]),
        ("356", "Forrest Gump", 1994, ["Comedy", "Drama", "Romance", "War"]),
        ("480", "Jurassic Park", 1993, ["Action", "Adventure", "Sci-Fi", "Thriller"]),
        ("106642", '"Great Performances" Cats', 1998, ["Musical"]),
        ("140956", "Ready Player One", None, ["Action", "Sci-Fi", "Thriller"]),
    ]


def test_no_genres_is_no_category_and_a_span_of_years_is_its_first(export_of: ExportOf) -> None:
    _, tables = export_of("movielens")
    assert only(tables["items"], "title", "year", "category", item_id="171749") == [
        ("Death Note: Desu nôto", 2006, None)
    ]


def test_ratings_are_events_with_stars(export_of: ExportOf) -> None:
    report, tables = export_of("movielens")
    assert len(tables["events"]) == 60
    assert tables["events"][0] == {
        "user_id": "1",
        "item_id": "29",
        "event": "rating",
        "timestamp": datetime(2000, 7, 31, 18, 45, 3),
        "rating": 3.5,
    }
    assert {Path(label).name for label in report.unread} == {"links.csv", "tags.csv"}
    _, old = export_of("movielens-1m")
    assert only(old["events"][:1], "item_id", "timestamp", "rating") == [("29", datetime(2000, 7, 31, 18, 45, 3), 4.0)]
