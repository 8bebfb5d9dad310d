"""Magento 2 (Adobe Commerce): its export of products, and the lines of orders and orders, in two files or one."""

from retrieval.importing.registry import Input, Reader, register_reader

PRODUCTS = {
    "sku": "sku", "view": "store_view_code", "type": "product_type", "categories": "categories", "name": "name",
    "body": "description", "short": "short_description", "online": "product_online", "visibility": "visibility",
    "price": "price", "special": "special_price", "special_ends": "special_price_to_date", "image": "base_image",
    "more": "additional_attributes", "qty": "qty", "in_stock": "is_in_stock", "variations": "configurable_variations",
}  # fmt: skip
LINES = {
    "sku": "sku", "order_id": "order_id", "number": "increment_id | order_number | Order #", "ordered": "qty_ordered",
    "refunded": "qty_refunded", "canceled": "qty_canceled", "price": "price", "inside": "parent_item_id",
    "status": "status | order_status", "email": "customer_email | email", "made": "order_created_at | created_at",
}  # fmt: skip
ORDERS = {
    "entity_id": "entity_id", "number": "increment_id", "status": "status", "email": "customer_email",
    "made": "created_at", "customer": "customer_id",
}  # fmt: skip
SETUP = r"""
CREATE MACRO attribute(x, name) AS
  blank_to_null(trim(regexp_extract(x, '(^|,)' || name || '=("[^"]*"|[^,]*)', 2), '"'));
CREATE MACRO shop_path(path) AS replace(replace(regexp_replace(replace(path, '\/', chr(30)), '^[^/]*/', ''),
  '/', ' > '), chr(30), '/');
CREATE TABLE main AS SELECT row_number() OVER () AS place, *, list_transform(list_filter(comma_paths(categories),
  lambda path: contains(path, '/')), lambda path: shop_path(path)) AS paths FROM products;
CREATE TABLE parents AS SELECT regexp_extract(variation, 'sku=([^,|]*)', 1) AS child, any_value(sku) AS sku,
  any_value(name) AS name, any_value(short) AS short, any_value(body) AS body, any_value(paths) AS paths,
  any_value(image) AS image, any_value(more) AS more
FROM (SELECT *, unnest(string_split(variations, '|')) AS variation FROM main WHERE view IS NULL) GROUP BY child;
CREATE TABLE sold AS SELECT lower(coalesce(l.email, o.email, o.customer)) AS user_id, l.sku AS item_id,
  coalesce(o.made, l.made) AS made, l.ordered AS quantity, l.price,
  coalesce(o.number, l.number, l.order_id) AS basket_id, lower(coalesce(o.status, l.status)) AS state,
  CASE WHEN state IN ('canceled', 'closed') THEN read_number(l.ordered, false)
    ELSE coalesce(read_number(l.refunded, false), 0) + coalesce(read_number(l.canceled, false), 0) END AS given_back,
  CASE WHEN l.inside IS NOT NULL THEN 'part of another line' WHEN state = 'pending_payment' THEN 'order never paid'
    WHEN user_id IS NULL THEN 'order without an email' END AS left_out
FROM order_items l LEFT JOIN orders o ON o.entity_id = l.order_id;
"""
ITEMS = """SELECT m.sku AS item_id, coalesce(m.name, p.name) AS title, deepest(coalesce(p.paths, m.paths)) AS category,
  other_paths(coalesce(p.paths, m.paths)) AS other_categories, coalesce(attribute(m.more, 'manufacturer'),
  attribute(m.more, 'brand'), attribute(p.more, 'manufacturer'), attribute(p.more, 'brand')) AS brand,
  CASE WHEN m.special_ends IS NULL THEN coalesce(m.special, m.price) ELSE m.price END AS price,
  nullif(concat_ws(' ', coalesce(m.short, p.short), coalesce(m.body, p.body)), '') AS description,
  coalesce(m.in_stock, m.qty) AS in_stock, coalesce(m.image, p.image) AS image, p.sku AS group_id,
  attribute(m.more, 'color') AS color, attribute(m.more, 'size') AS size,
  CASE WHEN m.view IS NOT NULL THEN 'row of the store view ' || m.view
    WHEN m.online IN ('0', '2') THEN 'disabled product' WHEN m.type = 'configurable' THEN 'parent of variants'
    WHEN m.type = 'grouped' THEN 'group of products'
    WHEN m.visibility ILIKE 'not visible%' AND p.child IS NULL THEN 'hidden product' END AS left_out
FROM main m LEFT JOIN parents p ON p.child = m.sku ORDER BY m.place"""
EVENTS = """SELECT user_id, item_id, 'purchase' AS event, made AS timestamp, quantity, price, basket_id, left_out
FROM sold UNION ALL BY NAME SELECT user_id, item_id, 'return' AS event, made AS timestamp, 1 AS seconds_later,
  CAST(given_back AS VARCHAR) AS quantity, price, basket_id FROM sold WHERE given_back > 0 AND left_out IS NULL"""
register_reader(Reader(name="magento", title="Magento", inputs=(
    Input(name="products", columns=PRODUCTS, required="sku view type name visibility"),
    Input(name="order_items", columns=LINES, required="sku ordered"),
    Input(name="orders", columns=ORDERS, required="entity_id number email"),
), setup=SETUP, tables={"items": ITEMS, "events": EVENTS}))  # fmt: skip
