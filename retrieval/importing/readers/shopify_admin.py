"""Shopify's admin API: the answers of `products.json` and `orders.json`, which say which lines were refunded."""

from retrieval.importing.registry import Input, Reader, register_reader

PRODUCTS = {
    "id": "id", "title": "title", "body": "body_html", "vendor": "vendor", "type": "product_type", "tags": "tags",
    "status": "status", "published": "published_at", "variants": "variants", "image": "image.src",
}  # fmt: skip
ORDERS = {
    "name": "name", "id": "id", "email": "email | contact_email", "customer": "customer.id", "made": "created_at",
    "cancelled": "cancelled_at", "status": "financial_status", "lines": "line_items", "refunds": "refunds",
}  # fmt: skip
SETUP = """
CREATE TABLE lines AS SELECT o.*, lower(coalesce(o.email, o.customer)) AS user_id, o.line ->> 'id' AS line_id,
  coalesce(nullif(o.line ->> 'sku', ''), o.line ->> 'variant_id', o.line ->> 'title') AS item_id,
  o.line ->> 'quantity' AS quantity, o.line ->> 'price' AS price, coalesce(o.name, o.id) AS basket_id,
  CASE WHEN status = 'expired' THEN 'order never paid' WHEN user_id IS NULL THEN 'order without a customer' END
    AS left_out
FROM (SELECT *, each(lines) AS line FROM orders) o;
CREATE TABLE refunded AS SELECT refund ->> 'created_at' AS made, line ->> 'line_item_id' AS line_id,
  line ->> 'quantity' AS quantity FROM (SELECT refund, each(refund -> 'refund_line_items') AS line
    FROM (SELECT each(refunds) AS refund FROM orders));
"""
ITEMS = """SELECT coalesce(nullif(variant ->> 'sku', ''), variant ->> 'id') AS item_id, p.type AS category,
  p.body AS description, p.vendor AS brand,
  concat_ws(' - ', p.title, nullif(variant ->> 'title', 'Default Title')) AS title,
  variant ->> 'price' AS price, p.image, p.id AS group_id, p.tags, variant ->> 'barcode' AS barcode,
  CASE WHEN variant ->> 'inventory_policy' = 'continue' OR variant ->> 'inventory_management' IS NULL THEN 'true'
    ELSE variant ->> 'inventory_quantity' END AS in_stock,
  CASE WHEN status IN ('draft', 'archived') THEN status || ' product' WHEN published IS NULL THEN 'hidden product' END
    AS left_out FROM (SELECT *, each(variants) AS variant FROM products) p"""
EVENTS = """SELECT user_id, item_id, 'purchase' AS event, made AS timestamp, quantity, price, basket_id, left_out
FROM lines UNION ALL BY NAME SELECT l.user_id, l.item_id, 'return' AS event,
  coalesce(r.made, l.cancelled, l.made) AS timestamp, if(r.made IS NULL AND l.cancelled IS NULL, 1, 0) AS seconds_later,
  coalesce(r.quantity, l.quantity) AS quantity, l.price, l.basket_id
FROM lines l LEFT JOIN refunded r USING (line_id) WHERE l.left_out IS NULL
  AND (r.line_id IS NOT NULL OR l.cancelled IS NOT NULL OR l.status IN ('refunded', 'voided'))"""

register_reader(Reader(name="shopify-admin", title="Shopify's admin API", inputs=(
    Input(name="products", columns=PRODUCTS, required="id title vendor variants", rows="products"),
    Input(name="orders", columns=ORDERS, required="id lines status made", rows="orders"),
), setup=SETUP, tables={"items": ITEMS, "events": EVENTS}))  # fmt: skip
