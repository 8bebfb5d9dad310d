"""Shopify's customer events (web pixels), as JSON lines. Items are the variants that events name."""

from retrieval.importing.registry import Input, Reader, register_reader

HITS = {
    "name": "name", "client": "clientId", "sent": "timestamp", "viewed": "data.productVariant",
    "cart_line": "data.cartLine", "order_lines": "data.checkout.lineItems", "order_id": "data.checkout.order.id",
    "customer": "data.checkout.order.customer.id", "email": "data.checkout.email", "term": "data.searchResult.query",
}  # fmt: skip
SETUP = """
CREATE VIEW hit AS SELECT * REPLACE (read_time(sent, false) AS sent),
    coalesce(buyer, CASE WHEN min(buyer) OVER visitor = max(buyer) OVER visitor THEN max(buyer) OVER visitor END,
        client) AS shopper,
    CASE name WHEN 'product_viewed' THEN 'view' WHEN 'product_added_to_cart' THEN 'cart'
        WHEN 'checkout_completed' THEN 'purchase' END AS event,
    order_id IS NOT NULL AND row_number() OVER (PARTITION BY name, order_id ORDER BY sent) > 1 AS again
FROM (SELECT *, coalesce(lower(email), customer) AS buyer FROM pixels) WINDOW visitor AS (PARTITION BY client);
CREATE VIEW line AS SELECT *, coalesce(nullif(variant->>'sku', ''), variant->>'id') AS item_id,
    variant->'product' AS product
FROM (SELECT *, coalesce(item->'variant', item->'merchandise', item) AS variant
      FROM (SELECT *, unnest(coalesce(nullif(TRY(from_json(order_lines, '["JSON"]')), []),
                                      [TRY(coalesce(cart_line, viewed)::JSON)])) AS item FROM hit));
CREATE VIEW search AS SELECT client, read_time(sent, false) AS sent, term FROM pixels WHERE name = 'search_submitted';
"""
ITEMS = """
SELECT item_id, arg_max(product->>'vendor', sent) AS brand, arg_max(product->>'type', sent) AS category,
    arg_max(concat_ws(' - ', product->>'title', nullif(variant->>'title', 'Default Title')), sent) AS title,
    arg_max(variant->'price'->>'amount', sent) AS price, arg_max(variant->'image'->>'src', sent) AS image,
    arg_max(product->>'id', sent) AS group_id
FROM line WHERE event IS NOT NULL AND item_id IS NOT NULL GROUP BY item_id ORDER BY item_id
"""
EVENTS = """
SELECT shopper AS user_id, item_id, event, line.sent AS timestamp, item->>'quantity' AS quantity,
    variant->'price'->>'amount' AS price, order_id AS basket_id,
    CASE WHEN event <> 'purchase' AND line.sent < search.sent + INTERVAL 10 MINUTE THEN search.term END AS query,
    CASE WHEN event IS NULL THEN 'event ' || name || ', which is not read'
        WHEN item_id IS NULL THEN name || ' without the id of a variant'
        WHEN again THEN 'an order that was sent before' END AS left_out
FROM line ASOF LEFT JOIN search ON line.client = search.client AND line.sent >= search.sent
ORDER BY user_id, timestamp, item_id
"""
register_reader(
    Reader(
        name="shopify-pixel",
        title="Shopify customer events",
        inputs=(Input(name="pixels", columns=HITS, required="name client sent"),),
        setup=SETUP,
        tables={"items": ITEMS, "events": EVENTS},
    )
)
