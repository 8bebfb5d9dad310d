"""A reader for `shortlist import`: a shop system's articles and sales, as its export writes them."""

from retrieval.importing.registry import Input, Reader, register_reader

ARTICLES = {"number": "Art-Nr | Article", "name": "Name", "category": "Group", "price": "Price", "state": "State"}
SALES = {"customer": "Customer", "number": "Art-Nr | Article", "pieces": "Pieces", "day": "Date"}

ITEMS = """
SELECT number AS item_id, name AS title, replace(category, '/', '>') AS category, price,
  CASE WHEN state = 'X' THEN 'article no longer sold' END AS left_out
FROM articles"""

EVENTS = """
SELECT customer AS user_id, number AS item_id, day AS timestamp, pieces AS quantity,
  CASE WHEN read_number(pieces, false) < 0 THEN 'return' ELSE 'purchase' END AS event
FROM sales"""

register_reader(
    Reader(
        name="my-shop",
        title="My shop's system",
        inputs=(
            Input(name="articles", columns=ARTICLES, required="number name category"),
            Input(name="sales", columns=SALES, required="customer number pieces"),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
