"""What a kind of event means is read from the words of its name."""

from __future__ import annotations

import pytest

from retrieval.data.event_kinds import Meaning, meaning

NAMES = {
    Meaning.PURCHASE: (
        "purchase", "Purchased", "buy", "order", "orders", "transaction", "Order Completed", "checkout_completed",
        "sales_order_place", "orderPlaced", "ORDER-PLACED", "reorder", "Kauf", "Bestellung", "achat", "commande passée",
        "compra", "pedido", "acquisto", "aankoop", "zamówienie", "köp",
        "заказ", "购买", "下单", "付款", "注文", "購入", "구매",
    ),
    Meaning.CHECKOUT: ("begin_checkout", "Checkout Started", "payment_info_submitted", "add_payment_info", "checkout"),
    Meaning.CART: (
        "cart", "carts", "basket", "addtocart", "Add-to_Cart", "addToCart", "Product Added", "product_added_to_cart",
        "checkout_cart_add_product", "view_cart", "Warenkorb", "ajout au panier", "añadido al carrito",
        "加购", "加入购物车", "カートに追加", "장바구니",
    ),
    Meaning.FAVOURITE: ("favourite", "fav", "like", "Added to wishlist", "Product Added to Wishlist", "Merkliste",
                        "favori", "收藏", "お気に入り"),
    Meaning.CLICK: ("click", "clicks", "Product Clicked", "buy_button_click", "select_item", "Klick", "点击"),
    Meaning.VIEW: ("view", "pv", "pageview", "page_view", "Product Viewed", "catalog_product_view", "view_item",
                   "Produktansicht", "vue", "visita", "浏览", "閲覧", "order viewed"),
    Meaning.RETURN: (
        "return", "returns", "returned", "refund", "refunded", "cancelled", "canceled", "order cancelled", "chargeback",
        "Order Refunded", "credit note", "creditmemo", "Gutschrift", "Rückgabe", "Retoure", "Storno", "avoir",
        "remboursement", "annulation", "devolución", "reembolso", "nota de crédito", "退货", "退款", "取消订单", "返品",
    ),
    Meaning.OTHER: (
        "purchase_intent", "purchase failed", "remove_from_cart", "cart cancelled", "checkout_cancelled",
        "cart abandoned",
        "refund requested", "取消收藏", "order_shipped", "Order Updated", "view_item_list", "impression", "search",
        "rating", "review", "call", "borders", "listen", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "wanted"), [(name, wanted) for wanted, names in NAMES.items() for name in names])
def test_a_name_tells_what_an_event_means(name: str, wanted: Meaning) -> None:
    assert meaning(name) is wanted
    assert meaning(f"  {name.upper()} ") is wanted or name != name.lower()
