"""Segment (and RudderStack): calls of the e-commerce specification, as JSON lines. Items are those that calls name."""

from retrieval.importing.registry import Input, Reader, register_reader

CALLS = {
    "type": "type", "name": "event", "message": "messageId | message_id", "user_id": "userId | user_id",
    "anonymous": "anonymousId | anonymous_id", "sent": "timestamp | originalTimestamp", "properties": "properties",
    "products": "properties.products", "order_id": "properties.order_id | properties.orderId",
}  # fmt: skip
SETUP = """
CREATE VIEW call AS SELECT calls.* REPLACE (lower(name) AS name, read_time(sent, false) AS sent),
    coalesce(user_id, who, anonymous) AS shopper,
    message IS NOT NULL AND row_number() OVER (PARTITION BY message ORDER BY sent) > 1 AS again,
    CASE WHEN products IS NULL AND order_id IS NOT NULL
         THEN max(products) FILTER (name ILIKE '%complete%') OVER (PARTITION BY order_id) ELSE products END AS lines
FROM calls LEFT JOIN (SELECT anonymous, max(user_id) AS who FROM calls GROUP BY anonymous
                      HAVING count(DISTINCT user_id) = 1) USING (anonymous);
CREATE VIEW line AS SELECT *, coalesce(item->>'product_id', item->>'id', item->>'sku') AS item_id
FROM (SELECT *, unnest(coalesce(nullif(TRY(from_json(lines, '["JSON"]')), []), [TRY(properties::JSON)])) AS item
      FROM call);
CREATE VIEW search AS SELECT shopper, sent, properties->>'query' AS term FROM call WHERE name = 'products searched';
"""
ITEMS = """
SELECT item_id, coalesce(arg_max(item->>'name', sent), item_id) AS title, arg_max(item->>'brand', sent) AS brand,
    arg_max(item->>'category', sent) AS category, arg_max(item->>'price', sent) AS price,
    arg_max(item->>'image_url', sent) AS image
FROM line WHERE item_id IS NOT NULL GROUP BY item_id ORDER BY item_id
"""
EVENTS = """
SELECT line.shopper AS user_id, item_id, line.sent AS timestamp, item->>'quantity' AS quantity,
    item->>'price' AS price, order_id AS basket_id,
    CASE WHEN name IN ('product viewed', 'viewed product') THEN 'view' WHEN name = 'product clicked' THEN 'click'
        WHEN name IN ('product added', 'added product') THEN 'cart'
        WHEN name = 'product added to wishlist' THEN 'favourite'
        WHEN name IN ('order completed', 'completed order') THEN 'purchase'
        WHEN name IN ('order refunded', 'order cancelled') THEN 'return' END AS event,
    CASE WHEN event IN ('view', 'click', 'cart') AND line.sent < search.sent + INTERVAL 10 MINUTE THEN term END
        AS query,
    CASE WHEN type <> 'track' THEN type || ' calls' WHEN event IS NULL THEN 'event ' || name || ', which is not read'
        WHEN item_id IS NULL THEN name || ' without the id of an item'
        WHEN again THEN 'a call that was sent before' END AS left_out
FROM line ASOF LEFT JOIN search ON line.shopper = search.shopper AND line.sent >= search.sent
ORDER BY user_id, timestamp, item_id
"""
register_reader(
    Reader(
        name="segment",
        title="Segment",
        inputs=(Input(name="calls", columns=CALLS, required="type properties sent"),),
        setup=SETUP,
        tables={"items": ITEMS, "events": EVENTS},
    )
)
