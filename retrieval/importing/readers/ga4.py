"""Google Analytics 4: the daily tables of its BigQuery export, as JSON lines. Items are those that events name."""

from retrieval.importing.registry import Input, Reader, register_reader

SETUP = """
CREATE MACRO known(x) AS nullif(nullif(trim(x), ''), '(not set)');
CREATE MACRO param(params, k) AS list_filter(TRY(from_json(params, '["JSON"]')), lambda p: p->>'key' = k)[1]->'value';
CREATE VIEW hit AS SELECT *,
    coalesce(user_id, CASE WHEN max(user_id) OVER visitor = min(user_id) OVER visitor
                           THEN max(user_id) OVER visitor END, pseudo) AS shopper,
    param(params, 'ga_session_id')->>'int_value' AS session,
    CASE WHEN name = 'refund' AND coalesce(items, '[]') = '[]' AND order_id IS NOT NULL
         THEN max(items) FILTER (name = 'purchase') OVER the_order ELSE items END AS lines,
    name = 'purchase' AND order_id IS NOT NULL AND sent > min(sent) FILTER (name = 'purchase') OVER the_order AS again
FROM (SELECT * REPLACE (known(order_id) AS order_id, known(user_id) AS user_id), try_cast(micros AS BIGINT) AS sent
      FROM hits)
WINDOW visitor AS (PARTITION BY pseudo), the_order AS (PARTITION BY order_id);
CREATE VIEW line AS SELECT *, coalesce(known(item->>'item_id'), known(item->>'item_name')) AS item_id
FROM (SELECT *, unnest(coalesce(nullif(TRY(from_json(lines, '["JSON"]')), []), [NULL])) AS item FROM hit);
CREATE VIEW search AS SELECT shopper, session, sent, param(params, 'search_term')->>'string_value' AS term
FROM hit WHERE name = 'view_search_results';
"""
ITEMS = """
SELECT item_id, coalesce(arg_max(known(item->>'item_name'), sent), item_id) AS title,
    arg_max(known(item->>'item_brand'), sent) AS brand, arg_max(item->>'price', sent) AS price,
    arg_max(list_filter([known(item->>'item_category'), known(item->>'item_category2'), known(item->>'item_category3'),
        known(item->>'item_category4'), known(item->>'item_category5')], lambda c: c IS NOT NULL), sent) AS category
FROM line WHERE item_id IS NOT NULL GROUP BY item_id ORDER BY item_id
"""
EVENTS = """
SELECT line.shopper AS user_id, item_id, make_timestamp(line.sent) AS timestamp, item->>'quantity' AS quantity,
    item->>'price' AS price, order_id AS basket_id, line.session AS session_id,
    CASE name WHEN 'view_item' THEN 'view' WHEN 'select_item' THEN 'click' WHEN 'add_to_cart' THEN 'cart'
        WHEN 'add_to_wishlist' THEN 'favourite' WHEN 'purchase' THEN name WHEN 'refund' THEN 'return' END AS event,
    CASE WHEN event IN ('view', 'click', 'cart') AND line.sent - search.sent < 600e6 THEN term END AS query,
    CASE WHEN event IS NULL THEN 'event ' || name || ', which is not read'
        WHEN item_id IS NULL THEN name || ' without the id or the name of an item'
        WHEN again THEN 'an order that was sent before' END AS left_out
FROM line ASOF LEFT JOIN search
    ON line.shopper = search.shopper AND line.session = search.session AND line.sent >= search.sent
ORDER BY user_id, timestamp, item_id
"""
HITS = {
    "name": "event_name", "micros": "event_timestamp", "pseudo": "user_pseudo_id", "user_id": "user_id",
    "params": "event_params", "items": "items", "order_id": "ecommerce.transaction_id",
}  # fmt: skip
register_reader(
    Reader(
        name="ga4",
        title="Google Analytics 4 (BigQuery export)",
        inputs=(Input(name="hits", columns=HITS, required="name micros pseudo params"),),
        setup=SETUP,
        tables={"items": ITEMS, "events": EVENTS},
    )
)
