"""WooCommerce's own export of products, and orders as its exporting plugins write them, by line or with all lines."""

from retrieval.importing.registry import Input, Reader, register_reader

PRODUCTS = {
    "id": "ID", "type": "Type", "sku": "SKU", "name": "Name", "published": "Published", "parent": "Parent",
    "visible": "Visibility in catalog | Visibility in catalogue", "short": "Short description", "body": "Description",
    "in_stock": "In stock?", "sale": "Sale price", "sale_ends": "Date sale price ends", "regular": "Regular price",
    "categories": "Categories", "tags": "Tags", "images": "Images", "brand": "Brands | Brand",
    "gtin": "GTIN, UPC, EAN, or ISBN", "value1": "Attribute 1 value(s)", "value2": "Attribute 2 value(s)",
    "value3": "Attribute 3 value(s)",
}  # fmt: skip
ORDERS = {
    "number": "Order Number | order_number | order_id", "status": "Order Status | status | order_status",
    "made": "Order Date | order_date | date", "email": "Email (Billing) | billing_email | customer_email",
    "sku": "SKU | item_sku | product_sku", "product": "Product Id | item_product_id | product_id",
    "name": "Item Name | item_name | Product Name | Name", "lines": "line_items | line_item_1",
    "bought": "Quantity | item_quantity", "kept": "Quantity (- Refund)", "price": "Item Cost | item_price",
    "refunded": "item_refunded_qty",
}  # fmt: skip
SETUP = r"""
CREATE MACRO part(line, name) AS nullif(regexp_extract(line, '(^|\|)' || name || ':([^|]*)', 2), '');
CREATE TABLE woo_items AS WITH rows AS (SELECT row_number() OVER () AS place, *, coalesce(sku, id) AS item_id,
  comma_paths(categories) AS paths FROM products)
SELECT c.place, c.item_id, c.id, coalesce(p.item_id, CASE WHEN c.type LIKE '%variation%' THEN c.parent END) AS group_id,
  CASE WHEN p.name IS NULL OR (c.name <> p.name) THEN coalesce(c.name, c.item_id) ELSE
    concat_ws(' - ', p.name, concat_ws(', ', c.value1, c.value2, c.value3)) END AS title,
  coalesce(c.paths, p.paths) AS paths, coalesce(c.brand, p.brand) AS brand, coalesce(c.tags, p.tags) AS tags,
  CASE WHEN c.sale_ends IS NULL THEN coalesce(c.sale, c.regular) ELSE c.regular END AS price, c.in_stock, c.gtin,
  replace(concat_ws(' ', coalesce(p.short, c.short), coalesce(p.body, c.body)), '\n', chr(10)) AS description,
  string_split(coalesce(c.images, p.images), ', ')[1] AS image,
  CASE WHEN c.type LIKE '%variable%' THEN 'parent of variants' WHEN c.type LIKE '%grouped%' THEN 'group of products'
  WHEN coalesce(p.published, c.published) = '-1' THEN 'draft product'
  WHEN coalesce(p.published, c.published) = '0' THEN 'private product'
  WHEN lower(coalesce(p.visible, c.visible)) = 'hidden' THEN 'hidden product' END AS left_out
FROM rows c LEFT JOIN rows p ON c.parent IN (p.sku, 'id:' || p.id) AND p.type LIKE '%variable%';
CREATE TABLE woo_lines AS WITH lines AS (SELECT row_number() OVER () AS place, * EXCLUDE (lines),
  unnest(CASE WHEN lines IS NULL THEN [NULL] ELSE string_split(lines, ';') END) AS line,
  regexp_replace(lower(status), '^wc-', '') AS state FROM orders),
told AS (SELECT *, coalesce(sku, part(line, 'sku')) AS code, coalesce(product, part(line, 'product_id')) AS product_id,
  coalesce(name, part(line, 'name')) AS title, coalesce(bought, part(line, 'quantity'), kept) AS quantity FROM lines)
SELECT place, lower(email) AS user_id, coalesce(code, (SELECT min(item_id) FROM woo_items i WHERE i.id = t.product_id),
  (SELECT min(item_id) FROM woo_items i WHERE i.title = t.title), title) AS item_id, made, quantity,
  coalesce(price, part(line, 'price')) AS price, number AS basket_id,
  CASE WHEN state IN ('cancelled', 'refunded') THEN quantity ELSE coalesce(refunded, part(line, 'refunded_qty'),
    CAST(read_number(quantity, false) - read_number(kept, false) AS VARCHAR)) END AS given_back,
  CASE WHEN state IN ('pending', 'pending payment', 'failed', 'draft', 'checkout-draft') THEN 'order never paid'
    WHEN email IS NULL THEN 'order without an email' END AS left_out FROM told t;
"""
ITEMS = """SELECT item_id, title, deepest(paths) AS category, other_paths(paths) AS other_categories, brand, price,
  description, in_stock, image, group_id, tags, gtin, left_out FROM woo_items ORDER BY place"""
EVENTS = """SELECT user_id, item_id, 'purchase' AS event, made AS timestamp, quantity, price, basket_id, left_out
FROM woo_lines UNION ALL BY NAME SELECT user_id, item_id, 'return' AS event, made AS timestamp, 1 AS seconds_later,
  CAST(abs(read_number(given_back, false)) AS VARCHAR) AS quantity, price, basket_id
FROM woo_lines WHERE read_number(given_back, false) <> 0 AND left_out IS NULL"""

register_reader(Reader(name="woocommerce", title="WooCommerce", inputs=(
    Input(name="products", columns=PRODUCTS, required="id type sku name visible"),
    Input(name="orders", columns=ORDERS, required="number status made email"),
), setup=SETUP, tables={"items": ITEMS, "events": EVENTS}))  # fmt: skip
