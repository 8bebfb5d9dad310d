"""MovieLens: `movies.csv` and `ratings.csv`, or the older files `movies.dat` and `ratings.dat`."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEMS = r"""
SELECT item_id, nullif(string_split(nullif(genres, '(no genres listed)'), '|'), ['']) AS category,
    try_cast(regexp_extract(name, '\((\d{4})[^()]*\)\s*$', 1) AS INTEGER) AS year,
    regexp_replace(trim(regexp_replace(name, '\(\d{4}[^()]*\)\s*$', '')),
                   '^(.*), (The|A|An|Les?|La|L''|Der|Die|Das|Il|El|Los|Las)( \(.*\))?$', '\2 \1\3') AS title
FROM (FROM movies UNION ALL FROM movies_dat)
"""
EVENTS = """
SELECT user_id, item_id, 'rating' AS event, timestamp, rating FROM (FROM ratings UNION ALL FROM ratings_dat)
"""
MOVIES = {"item_id": "movieId", "name": "title", "genres": "genres"}
RATINGS = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "timestamp": "timestamp"}
register_reader(
    Reader(
        name="movielens",
        title="MovieLens",
        inputs=(
            Input(name="movies", columns=MOVIES, required="item_id name genres"),
            Input(name="ratings", columns=RATINGS, required="user_id item_id rating timestamp"),
            Input(
                name="movies_dat",
                columns=MOVIES,
                file="movies.dat",
                header="movieId title genres",
                delimiter="::",
            ),
            Input(
                name="ratings_dat",
                columns=RATINGS,
                file="ratings.dat",
                header="userId movieId rating timestamp",
                delimiter="::",
            ),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
