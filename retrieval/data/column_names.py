"""Usual names of the contract's files and columns in exports, so that a missing one can be found by its likeness."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

LIKE = 86.0  # similarity of two names, in per cent, from which one may be a misspelling of the other
SHORTEST = 4  # letters of a name that is compared by similarity

_ITEM = (
    "itemid productid sku item product articleid productcode itemcode itemnumber itemno productnumber stockcode asin "
    "parentasin handle variantid produktid produktnummer artikelid artikelnummer artikelnr artnr artikel idproduit "
    "codeproduit reference idproducto producto referencia codigo idprodotto codiceprodotto idproduto "
    "商品id 商品编号 商品编码 商品 产品id 产品编号 商品コード 商品番号 상품id 상품번호"
)
_USER = (
    "userid customerid user customer client clientid visitorid memberid shopperid buyerid shopper visitor member uid "
    "accountid reviewerid email kunde kundenid kundennummer kundennr idclient utilisateur idutilisateur cliente "
    "idcliente usuario idusuario utente idutente 用户id 用户 客户id 会员id 买家id 顾客id 顧客id ユーザーid "
    "회원id 고객id"
)
_PRICE = (
    "price unitprice saleprice listprice priceusd preis einzelpreis verkaufspreis prix prixunitaire precio prezzo "
    "preco 价格 单价 售价 価格 가격"
)
_QUERY = (
    "query searchterm searchquery search searchtext keyword keywords term q suchbegriff suchanfrage suche recherche "
    "requete busqueda consulta ricerca 搜索词 关键词 查询 検索語 검색어"
)

USUAL: Mapping[str, Mapping[str, str]] = {
    "items": {
        "item_id": f"{_ITEM} id",
        "title": "title name productname producttitle itemname itemtitle titel bezeichnung produktname artikelname "
        "artikelbezeichnung nom nomproduit titre libelle designation titulo nombre nombreproducto nome nomeprodotto "
        "商品名 商品名称 商品标题 标题 名称 产品名称 品名 タイトル 상품명",
        "category": "category categories producttype productcategory categorypath kategorie kategorien warengruppe "
        "categorie categories rubrique categoria categorias 类目 分类 类别 商品分类 カテゴリ カテゴリー 카테고리",
        "brand": "brand brandname vendor manufacturer marke hersteller marque fabricant marca fabricante "
        "品牌 ブランド メーカー",
        "price": _PRICE,
        "description": "description desc productdescription longdescription bodyhtml beschreibung descriptif "
        "descripcion descrizione descricao 描述 商品描述 说明 説明 설명",
        "in_stock": "instock available isavailable isinstock lagernd verfugbar enstock disponible 有货 在庫",
        "group_id": "groupid itemgroupid parentid parentsku parentproductid productgroupid modelid styleid 款号",
        "image": "image imageurl imagelink imagesrc img imgurl picture photo bild bildurl imagen immagine 图片 画像",
    },
    "events": {
        "user_id": _USER,
        "item_id": _ITEM,
        "event": "event eventtype eventname type action actiontype kind behavior behaviour behaviortype interaction "
        "activity ereignis aktion evenement accion evento azione 行为 行为类型 事件 事件类型 イベント 이벤트",
        "timestamp": "timestamp ts time datetime date createdat eventtime eventtimestamp eventdate occurredat "
        "orderdate invoicedate purchasedate unixtime unixreviewtime zeit zeitpunkt zeitstempel datum uhrzeit "
        "bestelldatum horodatage dateheure fecha fechahora hora data ora 时间 时间戳 日期 下单时间 日時 시간",
        "quantity": "quantity qty count units menge anzahl stuckzahl quantite qte cantidad quantita "
        "quantidade 数量 수량",
        "price": _PRICE,
        "basket_id": "basketid orderid order ordernumber orderno invoiceno invoiceid invoice transactionid cartid "
        "checkoutid receiptid bestellnummer bestellid auftragsnummer commande numerocommande idcommande pedido "
        "idpedido 订单号 订单id 订单编号 注文番号 주문번호",
        "session_id": "sessionid session visitid sitzung sitzungsid 会话id セッションid",
        "query": _QUERY,
        "rating": "rating stars starrating overall score bewertung puntuacion valoracion valutazione 评分 評価 평점",
        "review": "review reviewtext comment rezension commentaire avis comentario recensione 评论 评价 レビュー",
    },
    "queries": {
        "query_id": "queryid qid searchid id 查询id",
        "text": f"text querytext {_QUERY}",
        "user_id": _USER,
    },
    "judgements": {
        "query_id": "queryid qid query searchid 查询id",
        "item_id": _ITEM,
        "grade": "grade relevance label score rating relevancescore relevancelabel judgement judgment rel gain "
        "escilabel note 相关性 评分",
        "split": "split fold partition subset dataset",
    },
    "relations": {
        "item_id": _ITEM,
        "related_id": "relatedid relatedproductid relateditemid relatedsku otherid targetid toid linkedsku",
        "kind": "kind type relation relationtype relationship linktype label",
    },
}  # fmt: skip
UPDATED = (
    "updatedat updated lastupdated lastupdate updatetime updatedate modifiedat modified lastmodified datemodified "
    "changedat lastchanged geandertam aktualisiertam misajour actualizado 更新时间 修改时间 更新日時"
)  # usual names of the time at which a row was written
FILES = {
    "items": "items item products product catalog catalogue articles produkte artikel produits productos 商品",
    "events": "events event interactions interaction orders order transactions clicks logs log actions sales reviews "
    "ratings bestellungen commandes pedidos 订单 行为",
    "queries": "queries query searches searchterms",
    "judgements": "judgements judgments judgement judgment qrels relevance labels grades",
    "relations": "relations relation related productlinks links crosssells upsells complements substitutes",
}


def renames(file: str, missing: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """For columns of the contract that a file lacks, the column that may be meant, by its usual names or its likeness.

    `file` is the file's name. Each column of `found` is proposed once at most.

    >>> renames("events.parquet", ["user_id", "timestamp", "quantity"], ["Kunden-Nr", "createdAt", "colour", "quantty"])
    {'user_id': 'Kunden-Nr', 'timestamp': 'createdAt', 'quantity': 'quantty'}
    """
    known = USUAL.get(file.removesuffix(".parquet"), {})
    return _matched({name: known[name].split() for name in missing if name in known}, list(found))


def file_renames(missing: str, found: Iterable[str]) -> str | None:
    """The file of the names `found` that may be meant by the contract's file `missing`.

    >>> file_renames("items.parquet", ["shop.parquet", "Products.parquet"])
    'Products.parquet'
    """
    stem = missing.removesuffix(".parquet")
    stems = {name.rsplit(".", 1)[0]: name for name in found}
    match = _matched({stem: FILES[stem].split()}, list(stems)).get(stem)
    return None if match is None else stems[match]


def update_column(found: Iterable[str]) -> str | None:
    """The column of `found` whose name tells that it holds the time at which a row was last changed.

    >>> update_column(["title", "Updated At"])
    'Updated At'
    """
    usual = UPDATED.split()
    return next((name for name in found if plain_name(name) in usual), None)


def _matched(wanted: Mapping[str, list[str]], found: list[str]) -> dict[str, str]:
    """For each name that is wanted, with its usual forms, the best of those found; equal ones before alike ones."""
    from rapidfuzz import fuzz

    plain, chosen = {name: plain_name(name) for name in found}, dict[str, str]()
    for ours, usual in wanted.items():
        free = {name: form for name, form in plain.items() if name not in chosen.values()}
        equal = [name for form in usual for name, other in free.items() if form == other]
        if equal:
            chosen[ours] = equal[0]
    for ours, usual in wanted.items():
        free = {name: form for name, form in plain.items() if name not in chosen.values() and len(form) >= SHORTEST}
        if ours not in chosen and free:
            alike = {name: max(fuzz.ratio(form, other) for other in usual) for name, form in free.items()}
            best = max(alike, key=lambda name: alike[name])
            if alike[best] >= LIKE:
                chosen[ours] = best
    return {ours: chosen[ours] for ours in wanted if ours in chosen}


def plain_name(name: str) -> str:
    """A name without accents, case, blanks and punctuation."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFC", re.sub(r"[\u0300-\u036f]", "", folded)))
