"""RetailRocket: `events.csv`, `item_properties_part1.csv` and `part2`, `category_tree.csv`. All texts are hashed."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEMS = """
WITH RECURSIVE path AS (
    SELECT id, [id] AS steps, parent FROM tree
    UNION ALL
    SELECT path.id, list_prepend(tree.id, steps), tree.parent FROM path JOIN tree ON tree.id = path.parent
    WHERE NOT list_contains(steps, tree.id)
), latest AS (
    SELECT item_id, arg_max(value, sent::BIGINT) FILTER (property = 'categoryid') AS leaf,
        arg_max(value, sent::BIGINT) FILTER (property = 'available') AS available,
        arg_max(value, sent::BIGINT) FILTER (property = '790') AS price
    FROM properties GROUP BY item_id
)
SELECT item_id, item_id AS title, available = '1' AS in_stock,
    CASE WHEN leaf IS NOT NULL THEN coalesce(steps, [leaf]) END AS category,
    try_cast(ltrim(price, 'n') AS DOUBLE) AS price, CASE WHEN leaf IS NULL THEN 'known by events alone' END AS note
FROM (SELECT DISTINCT item_id FROM visits UNION SELECT item_id FROM latest) LEFT JOIN latest USING (item_id)
    LEFT JOIN (SELECT id, steps FROM path WHERE parent IS NULL) ON id = leaf
ORDER BY item_id
"""
EVENTS = """
SELECT user_id, item_id, timestamp, basket_id,
    CASE event WHEN 'addtocart' THEN 'cart' WHEN 'transaction' THEN 'purchase' ELSE event END AS event
FROM visits
"""
register_reader(
    Reader(
        name="retailrocket",
        title="RetailRocket",
        inputs=(
            Input(
                name="visits",
                columns={
                    "user_id": "visitorid",
                    "item_id": "itemid",
                    "event": "event",
                    "timestamp": "timestamp",
                    "basket_id": "transactionid",
                },
                required="user_id item_id event timestamp",
            ),
            Input(
                name="properties",
                columns={"item_id": "itemid", "sent": "timestamp", "property": "property", "value": "value"},
                required="item_id property value",
            ),
            Input(name="tree", columns={"id": "categoryid", "parent": "parentid"}, required="id parent"),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
