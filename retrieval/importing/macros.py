"""SQL macros that clean what exports write: amounts, times, flags, categories. Declared once, for every reader.

`decimal_comma` and `day_first` are decided for a whole column (`retrieval.importing.cleaning`): one value such as
`1.299` or `03/04/2024` does not say how it is meant.
"""

from __future__ import annotations

SPACE = r"[\s\x{a0}\x{202f}\x{feff}]"  # blanks as spreadsheets write them, no-break ones included
NUMBER = r"\d+(?:[ '’\x{a0}\x{202f}]\d{3})*(?:[.,]\d+)*|[.,]\d+"  # digits with any separators
_TRUE = "1 true yes y t x ja oui si sí sim 是 有 on in_stock instock available enabled published visible"
_FALSE = (
    "0 false no n f nein non não 否 无 off out_of_stock outofstock unavailable sold_out soldout backorder onbackorder "
    "preorder discontinued disabled unpublished hidden none"
)
_MONTHS_FIRST = "%m/%d/%y", "%m/%d/%Y"  # %y first: %Y would read 24 as the year 24
_DAYS_FIRST = "%d/%m/%y", "%d/%m/%Y"
_CLOCKS = "", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p"
_NAMED = "%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y", "%a %d %b %Y", "%a %b %d %Y", "%A %d %B %Y", "%A %B %d %Y"


def _list(values: list[str]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _formats(dates: tuple[str, ...]) -> str:
    return _list([date + clock for date in dates for clock in _CLOCKS])


MACROS = rf"""
CREATE MACRO blank_to_null(x) AS nullif(regexp_replace(x, '^{SPACE}+|{SPACE}+$', '', 'g'), '');

-- A cell of a spreadsheet: without blanks around it, the apostrophe before a number, and the ="..." around a text.
CREATE MACRO cell(x) AS blank_to_null(CASE
  WHEN regexp_matches(x, '^''([0-9][^'' ]*$|[+=@-])') THEN substr(x, 2)
  WHEN regexp_full_match(x, '="[^"]*"') THEN substr(x, 3, length(x) - 3)
  ELSE x END);

CREATE MACRO number_separators(digits, decimal_comma) AS CASE
  WHEN contains(digits, ',') AND contains(digits, '.')
    THEN CASE WHEN strpos(reverse(digits), ',') < strpos(reverse(digits), '.')
      THEN replace(replace(digits, '.', ''), ',', '.') ELSE replace(digits, ',', '') END
  WHEN regexp_matches(digits, '[.,].*[.,]') THEN regexp_replace(digits, '[.,]', '', 'g')
  WHEN contains(digits, ',')
    THEN CASE WHEN regexp_matches(digits, '^[1-9]\d{{0,2}},\d{{3}}$') AND NOT decimal_comma
      THEN replace(digits, ',', '') ELSE replace(digits, ',', '.') END
  WHEN regexp_matches(digits, '^[1-9]\d{{0,2}}\.\d{{3}}$') AND decimal_comma THEN replace(digits, '.', '')
  ELSE digits END;

-- An amount with any currency and separators: '12.99 USD', '1.299,00 €', 'Rs.499', '-$5', '1e3'.
CREATE MACRO read_number(x, decimal_comma) AS CASE
  WHEN regexp_full_match(x, '[+-]?\d+(\.\d+)?[eE][+-]?\d+') THEN TRY_CAST(x AS DOUBLE)
  ELSE CASE WHEN regexp_matches(x, '^\D*[-−(]') THEN -1 ELSE 1 END * TRY_CAST(number_separators(
    regexp_replace(regexp_extract(regexp_replace(x, '\pL\.', ' ', 'g'), '{NUMBER.replace("'", "''")}'),
      '[ ''’\x{{a0}}\x{{202f}}]', '', 'g'), decimal_comma) AS DOUBLE) END;

CREATE MACRO read_flag(x) AS CASE
  WHEN replace(lower(x), ' ', '_') IN ({_list(_TRUE.split())[1:-1]}) THEN true
  WHEN replace(lower(x), ' ', '_') IN ({_list(_FALSE.split())[1:-1]}) THEN false
  ELSE TRY_CAST(x AS DOUBLE) > 0 END;

-- An epoch in s, ms, µs or ns, by its number of digits; those of 1990 to 2100 and no others.
CREATE MACRO read_epoch(x) AS CASE
  WHEN regexp_full_match(x, '\d{{9,10}}(\.\d+)?') THEN make_timestamp((x::DOUBLE * 1e6)::BIGINT)
  WHEN regexp_full_match(x, '\d{{12,13}}(\.\d+)?') THEN make_timestamp((x::DOUBLE * 1e3)::BIGINT)
  WHEN regexp_full_match(x, '\d{{15,16}}') THEN make_timestamp(x::BIGINT)
  WHEN regexp_full_match(x, '\d{{18,19}}') THEN make_timestamp(x::BIGINT // 1000) END;

CREATE MACRO read_zoned(x) AS TRY_CAST(
  regexp_replace(regexp_replace(x, '{SPACE}*([+-]\d\d):?(\d\d)$', '\1:\2'), '{SPACE}*GMT$', ' UTC') AS TIMESTAMPTZ
)::TIMESTAMP;

-- Dates of words and of three numbers, their commas, dots and zones taken away.
CREATE MACRO plain_date(x) AS regexp_replace(regexp_replace(regexp_replace(
  x, '^(\d{{1,2}})[./-](\d{{1,2}})[./-](\d{{4}}|\d\d)\b', '\1/\2/\3'),
  ',| at | um |{SPACE}+(GMT|UTC|\+0000)$', ' ', 'g'), '{SPACE}+', ' ', 'g');

-- A time in UTC: epochs, ISO 8601 with any zone, and dates as people write them.
CREATE MACRO read_time(x, day_first) AS CASE
  WHEN regexp_full_match(x, '(19|20)\d{{6}}') THEN try_strptime(x, '%Y%m%d')
  WHEN regexp_full_match(x, '(19|20)\d{{10}}') THEN try_strptime(x, '%Y%m%d%H%M')
  WHEN regexp_full_match(x, '(19|20)\d{{12}}') THEN try_strptime(x, '%Y%m%d%H%M%S')
  WHEN regexp_full_match(x, '\d{{9,19}}(\.\d+)?') THEN read_epoch(x)
  WHEN regexp_matches(x, '^\d{{4}}[-/年.]') THEN read_zoned(
    regexp_replace(x, '^(\d{{4}})[-/年.](\d{{1,2}})[-/月.](\d{{1,2}})日?', '\1-\2-\3'))
  WHEN regexp_matches(x, '^\d{{1,2}}\.\d') OR day_first
    THEN coalesce(try_strptime(plain_date(x), {_formats(_DAYS_FIRST)}), try_strptime(plain_date(x), {_formats(_NAMED)}))
  ELSE coalesce(try_strptime(plain_date(x), {_formats(_MONTHS_FIRST)}),
    try_strptime(plain_date(x), {_formats(_NAMED)})) END;

-- A category from wide to narrow: 'A > B', a set 'A|B', a JSON list, or a single name.
CREATE MACRO trimmed(parts) AS nullif(list_filter(list_transform(parts, lambda part: blank_to_null(part)),
  lambda part: part IS NOT NULL), []);
CREATE MACRO read_path(x) AS trimmed(CASE
  WHEN regexp_matches(x, '^\[.*\]$') AND json_valid(x) THEN from_json(x, '["VARCHAR"]')
  WHEN contains(x, '>') THEN string_split(x, '>')
  ELSE string_split(x, '|') END);

-- Several paths in one text, 'A > B, C' (a comma within a name is '\,'): each path, the deepest one, and the others.
CREATE MACRO comma_paths(x) AS trimmed(list_transform(string_split(replace(x, '\,', chr(31)), ','),
  lambda path: replace(path, chr(31), ',')));
CREATE MACRO deepest(paths) AS list_reduce(paths,
  lambda best, path: CASE WHEN len(string_split(path, '>')) > len(string_split(best, '>')) THEN path ELSE best END);
CREATE MACRO other_paths(paths) AS nullif(array_to_string(list_filter(paths,
  lambda path: NOT starts_with(deepest(paths), path)), '; '), '');

-- The elements of a JSON list, one a row, as JSON.
CREATE MACRO each(x) AS unnest(from_json(x, '["JSON"]'));
"""
