"""Amazon Reviews 2023: reviews and metadata as JSON lines. An item is a parent; the variant bought is no item."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEMS = """
SELECT item_id, title, brand, price, category, images::JSON->0->>'large' AS image,
    concat_ws(' ', nullif(array_to_string(from_json(features, '["VARCHAR"]'), '. '), '') || '.',
              array_to_string(from_json(description, '["VARCHAR"]'), ' ')) AS description,
    CASE WHEN row_number() OVER (PARTITION BY item_id ORDER BY title DESC) > 1 THEN 'an item that was there before'
        WHEN coalesce(trim(title), '') = '' THEN 'an item without a title' END AS left_out
FROM meta ORDER BY item_id
"""
EVENTS = """
SELECT user_id, item_id, timestamp, rating, nullif(concat_ws('. ', title, text), '') AS review,
    CASE WHEN verified = 'true' THEN 'purchase' ELSE 'review' END AS event,
    CASE WHEN row_number() OVER (PARTITION BY user_id, item_id, timestamp, text ORDER BY rating) > 1
        THEN 'a review that was there before' END AS left_out
FROM reviews ORDER BY user_id, timestamp, item_id
"""
register_reader(
    Reader(
        name="amazon-reviews",
        title="Amazon Reviews 2023",
        inputs=(
            Input(
                name="reviews",
                columns={
                    "user_id": "user_id",
                    "item_id": "parent_asin",
                    "timestamp": "timestamp",
                    "rating": "rating",
                    "title": "title",
                    "text": "text",
                    "verified": "verified_purchase",
                },
                required="user_id item_id timestamp rating",
            ),
            Input(
                name="meta",
                columns={
                    "item_id": "parent_asin",
                    "title": "title",
                    "brand": "store",
                    "price": "price",
                    "category": "categories",
                    "features": "features",
                    "description": "description",
                    "images": "images",
                },
                required="item_id category",
            ),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
