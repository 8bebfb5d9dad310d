"""What a kind of event means, read from the words of its name in the languages that shops mostly use."""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum
from functools import lru_cache


class Meaning(IntEnum):
    """What a shopper shows by an event; from PURCHASE to VIEW the stronger comes first."""

    PURCHASE, CHECKOUT, CART, FAVOURITE, CLICK, VIEW, RETURN, OTHER = range(8)


STRENGTH = tuple(Meaning)[: Meaning.RETURN]  # meanings that can be predicted, the strongest first

# Words of names without accents and case. A word ends where it is written; with `*` it may go on. Words of scripts
# without blanks are looked for anywhere.
_PURCHASE = (
    "purchas* order* reorder* bought buy buys buying transaction* txn trx sale sales sold paid conversion* converted "
    "invoice* repurchas* "
    "kauf kaufe gekauft kaufen einkauf* verkauf* bestell* nachbestell* auftrag* rechnung* "
    "achat* achete* commande* vente* compra* comprad* pedido* venta* acquist* ordine ordini vendit* encomenda* "
    "aankoop* gekocht bestelling* zakup* zamowieni* kop kopt "
    "заказ* покупк* купил* "
    "购买 購買 下单 下單 成交 付款 支付 订单 訂單 购入 购物成功 結帳 结账 注文 購入 구매 주문 결제"
)
_CHECKOUT = "checkout* payment* billing shipping kasse caisse paiement zahlung* pago pagamento 结算 チェックアウト レジ"
_DONE = (
    "complet* succe* finish* confirm* placed made done captured abgeschlossen erfolgreich termine* valide* reussi* "
    "finalizad* confirmad* 成功 完成 完了"
)
_CART = (
    "cart* basket* bag trolley addtocart addtobasket addtobag atc warenkorb* einkaufswagen* einkaufskorb* panier* "
    "carrito* cesta* carrell* carrinho* winkelwagen* winkelmand* koszyk* varukorg* корзин* "
    "加购 加購 购物车 購物車 购物篮 カート 買い物かご 장바구니"
)
_ADD = "add added adding adds hinzugefugt ajout* anadid* agregad* aggiunt* adicionad* 追加 추가 添加 加入"
_PRODUCT = "product* item items article* artikel* sku produit* producto* prodotto prodotti produto* 商品 상품"
_FAVOURITE = (
    "favourit* favorit* favori* fav favs like likes liked wish* wishlist* bookmark* saved save heart* merkliste* "
    "merkzettel* wunsch* gemerkt envie* deseo* deseado* preferit* desideri ulubion* избранн* "
    "收藏 喜欢 喜歡 点赞 心愿 愿望 お気に入り いいね 찜 좋아요"
)
_CLICK = "click* clic clics clique* klick* tap tapped select select_* selected 点击 點擊 クリック 클릭"
_VIEW = (
    "view views viewed viewing pageview* productview* itemview* detailview* viewitem* viewproduct* pdp pv visit visits "
    "visited look looks looked lookup browse browsed browsing detail details seen open opened ansicht* angesehen "
    "angeschaut produktansicht* aufruf* seitenaufruf* besuch* betrachtet vue vues vu consult* visite* vista* visto "
    "visita* visualiz* bekeken wyswietl* просмотр* 浏览 瀏覽 查看 访问 訪問 閲覧 表示 조회"
)
_RETURN = (
    "return returns returned refund* chargeback* creditnote* creditmemo* retour* retoure* ruckgabe* ruckgesandt* "
    "ruckerstatt* erstatt* gutschrift* zuruckgegeben rembours* retourne* avoir devolucion* devuelt* devolv* reembols* "
    "restituzion* reso resi rimbors* zwrot* возврат* 退货 退貨 退款 退单 返品 返金 반품 환불"
)
_CREDIT = "credit_note credit_notes credit_memo nota_de_credito note_de_credit nota_di_credito charge_back sent_back"
_CANCEL = "cancel* storno* storniert* annul* cancelad* anulad* voided отмен* 取消 撤销 キャンセル 취소"
_REMOVE = "remove* delete* entfernt supprim* retire* eliminad* rimoss* unlike* unfav* 移除 删除 刪除 削除 삭제"
_NOT_YET = (
    "intent* intention* start* begin* began initiat* fail* declin* abandon* error* request* reject* attempt* expire* "
    "fehlgeschlagen abgebrochen echec echou* abandonn* fallid* fallit* 失败 失敗 意向 申请"
)
_AFTERWARDS = (
    "ship* deliver* fulfil* updat* status track* history review* rating* rate* comment* geliefert versandt versendet "
    "expedi* livre* enviad* entregad* spedit* 发货 發貨 收货 签收 评价 評價 配送 発送"
)
_LISTED = "list lists listing impression* exposure* exposed shown scroll* search* 曝光 展示 搜索 検索 검색"


def _pattern(words: str) -> re.Pattern[str]:
    found = []
    for word in words.split():
        if _has_blanks(word):
            found.append(rf"\b{re.escape(word.rstrip('*')).replace('_', ' ')}" + (r"" if word.endswith("*") else r"\b"))
        else:
            found.append(re.escape(word))
    return re.compile("|".join(found))


def _has_blanks(word: str) -> bool:
    """Whether the script of a word puts blanks between words: Latin, Cyrillic and the like."""
    return ord(word[0]) < 0x0E00


_READ = {
    name: _pattern(words)
    for name, words in {
        "purchase": _PURCHASE,
        "checkout": _CHECKOUT,
        "done": _DONE,
        "cart": _CART,
        "add": _ADD,
        "product": _PRODUCT,
        "favourite": _FAVOURITE,
        "click": _CLICK,
        "view": _VIEW,
        "return": f"{_RETURN} {_CREDIT}",
        "cancel": _CANCEL,
        "remove": _REMOVE,
        "not yet": _NOT_YET,
        "afterwards": _AFTERWARDS,
        "listed": _LISTED,
    }.items()
}


@lru_cache(4096)
def meaning(kind: str) -> Meaning:
    """What a kind of event means, by the words of its name.

    >>> [meaning(name).name for name in ("Order Completed", "addToCart", "Added to wishlist", "purchase_intent")]
    ['PURCHASE', 'CART', 'FAVOURITE', 'OTHER']
    >>> [meaning(name).name for name in ("Order Refunded", "购买", "Kauf", "product_viewed", "remove_from_cart")]
    ['RETURN', 'PURCHASE', 'PURCHASE', 'VIEW', 'OTHER']
    """
    text = _words_of(kind)
    has = {name for name, pattern in _READ.items() if pattern.search(text)}
    if has & {"cancel", "return"}:
        return _given_back(has)
    if "remove" in has:
        return Meaning.OTHER
    if "favourite" in has:
        return Meaning.FAVOURITE
    browsed = Meaning.CLICK if "click" in has else Meaning.VIEW if "view" in has else None
    if has & {"purchase", "checkout"} and "cart" not in has:
        return _bought(has, browsed)
    if "cart" in has or {"add", "product"} <= has or text in ("add", "added"):
        return Meaning.OTHER if has & {"not yet", "afterwards"} else Meaning.CART
    if has & {"listed", "afterwards"}:
        return Meaning.OTHER
    return Meaning.OTHER if browsed is None else browsed


def _given_back(has: set[str]) -> Meaning:
    """A name that speaks of giving back or of cancelling: a cart that is given up is none of a purchase."""
    unmade = has & {"cart", "favourite", "checkout", "not yet"}
    return Meaning.OTHER if unmade and ("cancel" in has or "not yet" in has) else Meaning.RETURN


def _bought(has: set[str], browsed: Meaning | None) -> Meaning:
    """A name that speaks of an order or of paying, which may be looked at, begun, or long made."""
    if browsed is not None:
        return browsed
    if "afterwards" in has and "checkout" not in has:
        return Meaning.OTHER
    if "checkout" in has and "done" not in has and "purchase" not in has:
        return Meaning.CHECKOUT
    if "not yet" in has:
        return Meaning.CHECKOUT if "checkout" in has else Meaning.OTHER
    return Meaning.PURCHASE


def _words_of(kind: str) -> str:
    """The words of a name with a blank between them, without accents, case and punctuation.

    >>> _words_of("Add-to_Cart"), _words_of("orderCompleted"), _words_of("Añadido al carrito")
    ('add to cart', 'order completed', 'anadido al carrito')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", kind))
    plain = re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", spaced.casefold()))
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", plain)).strip()
