"""ESCI, Amazon's shopping queries: the parquet files of examples and of products. Labels E, S, C, I are 3, 2, 1, 0."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEM_ID = "CASE locale WHEN 'us' THEN product_id ELSE product_id || '-' || locale END AS item_id"
ITEMS = f"""
SELECT {ITEM_ID}, title, brand, colour, locale, nullif(concat_ws(' ', bullets, description), '') AS description
FROM products
"""
QUERIES = "SELECT query_id, any_value(text) AS text FROM examples GROUP BY query_id ORDER BY query_id"
JUDGEMENTS = f"""
SELECT query_id, {ITEM_ID}, split,
    CASE label WHEN 'E' THEN 3 WHEN 'S' THEN 2 WHEN 'C' THEN 1 WHEN 'I' THEN 0 END AS grade,
    CASE WHEN grade IS NULL THEN 'a label other than E, S, C or I' END AS left_out
FROM examples
"""
register_reader(
    Reader(
        name="esci",
        title="ESCI",
        inputs=(
            Input(
                name="examples",
                columns={
                    "query_id": "query_id",
                    "text": "query",
                    "product_id": "product_id",
                    "locale": "product_locale",
                    "label": "esci_label",
                    "split": "split",
                },
                required="query_id text product_id label",
            ),
            Input(
                name="products",
                columns={
                    "product_id": "product_id",
                    "locale": "product_locale",
                    "title": "product_title",
                    "brand": "product_brand",
                    "colour": "product_color",
                    "description": "product_description",
                    "bullets": "product_bullet_point",
                },
                required="product_id title",
            ),
        ),
        tables={"items": ITEMS, "queries": QUERIES, "judgements": JUDGEMENTS},
    )
)
