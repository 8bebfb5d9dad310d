"""The report: self-contained, safe with any title, true to the evaluation it is given."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from ranking.ordering.blend import Blend
from ranking.ordering.gate import gate
from ranking.ordering.permute import rerank
from ranking.ordering.platt import PlattScaling, reliability
from retrieval.topk import CSR, Hits
from serving.evaluation.figures import Example, JudgedTask, MeasuredTask, evaluate, relevant_rows
from serving.reporting import charts, report_view
from serving.reporting.charts import Interval, change_bars, recall_curves, stage_dots
from serving.reporting.report import Report, render_report, write_whole, written

EVIL = '<script>alert("x")</script> & "quoted" {{ 7 * 7 }}'


def evaluation():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(30)[:20] for _ in range(60)])
    hits = Hits(rows, np.tile(-np.arange(20, dtype=np.float32), (60, 1)))
    order = rerank(hits, rng.random((60, 20), np.float32))
    task = MeasuredTask(
        targets=CSR(np.arange(61), rng.integers(0, 30, 60)),
        stages={"popularity": hits, "item_knn": hits, "retrieval": hits},
        sampled={"reweighed": hits, "reranked": order, "final": order},
    )
    judged, grades = CSR.from_lists([[0, 1, 2, 3, 4]] * 4), np.array([1.0, 2, 3, 1, 1] * 4)
    search = MeasuredTask(
        targets=relevant_rows(judged, grades),
        stages={"bm25": hits.head(9).select(np.arange(4))},
        judged=judged,
        grades=grades,
    )
    return evaluate(
        recommend={"seen_removed": task, "seen_kept": task},
        search=search,
        judged=JudgedTask(
            judged=judged,
            grades=grades,
            scores={"bm25": grades.astype(np.float32)},
            predicted={"reranked": np.ones(20, np.float32)},
        ),
        gates={
            "recommend": {
                **gate(np.zeros(30), rng.random(30)).as_json(),
                "on": True,
                "features": {**gate(np.zeros(30), rng.random(30)).as_json(), "on": True, "kind": "mlp"},
                "blend": Blend(0.5, 12.0, -3.0).as_json(),
                "weights": {"logit": 0.5, "towers": 36.0, "popularity_7d": 0.125},
                "against": {"popularity": gate(np.full(30, 0.25), np.full(30, 0.75)).as_json()},
            },
            "search": {**gate(np.zeros(0), np.zeros(0)).as_json(), "on": False},
        },
        release="r1",
    )


@pytest.fixture(scope="module")
def report():
    return Report(
        title="A shop",
        created=datetime(2025, 3, 1, 9, 5),
        evaluation=evaluation(),
        facts={"items": "30"},
        split="Split by time.",
        folds={"gate": 30, "test": 60},
        examples=[
            Example(
                kind="search",
                asked=["deck screw"],
                before=["bolt", "screw"],
                after=["screw", "bolt"],
                targets=frozenset({"screw"}),
            )
        ],
        environment={"machine": "two cores"},
        platt_scaling={
            "recommend": PlattScaling(
                reliability(np.linspace(0, 1, 40), np.zeros(40)),
                reliability(np.full(40, 0.25), np.arange(40) % 4 == 0),
            ).as_json()
        },
    )


@pytest.fixture(scope="module")
def page(report):
    return render_report(report)


class Tags(HTMLParser):
    """Collects every tag with its attributes, and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags_of(page):
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


def test_the_page_loads_nothing_and_is_well_formed(page):
    seen = tags_of(page)
    assert {"script", "link", "img", "iframe"}.isdisjoint(tag for tag, _ in seen)
    outside = re.findall(r"https?://[^\s\"'<)]+", page)
    assert set(outside) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    references = [value for _, attrs in seen for name, value in attrs.items() if name in {"src", "href", "xlink:href"}]
    assert all(value.startswith("#") for value in references)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_every_reference_inside_a_drawing_is_defined_on_the_page(page):
    defined = set(re.findall(r'\bid="([^"]+)"', page))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page)) <= defined


def test_given_texts_are_escaped_and_never_run_as_a_template(report):
    example = Example(kind="shopper", asked=[EVIL], before=[EVIL, "b"], after=["b", EVIL], targets=frozenset({EVIL}))
    page = render_report(
        replace(
            report,
            title=EVIL,
            split=EVIL,
            facts={EVIL: EVIL},
            environment={EVIL: EVIL},
            folds={EVIL: 3},
            examples=[example],
        )
    )
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("&lt;script&gt;") >= 8
    tags_of(page)


def test_the_page_shows_the_figures_the_interval_the_gate_and_what_moved(report, page):
    task = report.evaluation["tasks"]["recommend"]["seen_removed"]
    change = task["changes"]["reranked"]
    for value in (change["before"]["mean"], change["after"]["mean"], task["stages"]["popularity"]["recall@5"]):
        assert f"{value:.4f}".replace("0.", ".", 1) in page
    assert f"{100 * task['stages']['retrieval']['recall@100']:.1f} %" in page
    for text in (
        "Proven",
        "Not shown",
        "linear gain",
        "exponential gain, 2^(grade - 1) - 1",
        "deck screw",
        "0.5 * logit + 12 * retrieval",
        "logit 0.5; towers 36; popularity, 7 days 0.125",
        "against popularity",
        "Recommending: Ordering by features",
        "Recommending: Text model",
        "kind of ranker",
        "+.5000 (proven, +.5000 to +.5000)",
        "▲ 1",
        "▼ 1",
    ):
        assert text in page
    assert 'class="wanted"' in page
    assert "1 March 2025, 09:05" in page


def test_the_page_shows_how_well_the_scores_hold_as_chances(page):
    assert "are the scores good probabilities?" in page
    assert "Expected calibration error .5000 before, .0000 after, on 40 pairs" in page
    assert "share that came true" in page


def test_a_shopper_without_a_history_is_named_as_one(report):
    stranger = Example(kind="shopper", asked=[""], before=["a"], after=["a"], targets=frozenset())
    page = render_report(replace(report, examples=[stranger]))
    assert "of whom nothing is known yet" in page
    assert "newest first" not in page


def test_made_up_data_are_named_as_such_only_where_they_are(report, page):
    assert "These data were generated" not in page
    assert "These data were generated" in render_report(replace(report, generated=True))


def test_an_evaluation_without_tasks_or_values_still_makes_a_page(report):
    nobody = Hits(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))
    empty = MeasuredTask(
        targets=CSR.from_lists([]), stages={"popularity": nobody, "retrieval": nobody}, sampled={"reranked": nobody}
    )
    for found in (evaluate(), evaluate(recommend={"seen_removed": empty})):
        bare = Report(title="Nothing", created=report.created, evaluation=found)
        assert "<h1>Nothing</h1>" in render_report(bare)


def test_the_same_report_is_the_same_page(report, page):
    assert render_report(report) == page


def test_a_report_is_written_whole_or_not_at_all(report, page, tmp_path):
    path = tmp_path / "report.html"
    write_whole(render_report(report), path)
    assert path.read_text(encoding="utf-8") == page
    with pytest.raises(OSError, match="no room"), written({path: "another page"}):
        raise OSError("no room")
    assert path.read_text(encoding="utf-8") == page
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were():
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        recall_curves({"retrieval": {5: 0.1, 10: 0.2}})
        assert dict(matplotlib.rcParams) == before


def test_charts_name_their_lines_and_take_colours_from_the_page():
    chart = recall_curves({"item_knn": {5: 0.1, 10: 0.12}, "retrieval": {5: 0.2, 10: 0.3}})
    assert ">item-kNN<" in chart
    assert "var(--retrieval)" in chart
    assert re.search(r"#0\d000\d", chart) is None
    assert ".0934" in stage_dots({"retrieval": 0.0934}, {"retrieval": Interval(0.0934, 0.09, 0.1)}, "nDCG@10")
    assert "+.0100" in change_bars({"search": Interval(0.01, -0.002, 0.02)}, "change")


def test_importing_the_report_draws_nothing_in():
    heavy = ("matplotlib", "jinja2", "rich", "scipy", "torch")
    code = "import sys, serving.reporting.report, serving.reporting.tables\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_figures_to_remember_name_their_task() -> None:
    interval = {"mean": 0.1, "low": 0.0, "high": 0.2}
    change = {"n": 10, "before": interval, "after": interval, "change": interval}
    stages = {"retrieval": {"recall@100": 0.5}, "fused": {"recall@100": 0.6}}
    task = {
        "n": 10,
        "stages": stages,
        "changes": {"features": change | {"against": "fused"}, "reranked": change | {"against": "features"}},
    }
    names = ("seen_kept", "search", "personalised_search", "complete_cart")
    labels = [tile.label for tile in report_view.tiles(dict.fromkeys(names, task))]
    assert labels == [
        label
        for found, task in (
            ("of what shoppers took next is", "recommendation"),
            ("of the best-graded items are", "search"),
            ("of what was taken after a search is", "personalised search"),
            ("of hidden cart items are", "cart completion"),
        )
        for label in (
            f"{found} among the 100 candidates",
            f"nDCG@10 of {task}, before and after ordering by features",
            f"nDCG@10 of {task}, before and after the text model alone",
        )
    ]


@pytest.fixture
def fonts(monkeypatch):
    """Sets the fonts that matplotlib is to find."""

    def there_are(*names):
        monkeypatch.setattr(charts, "_font_names", lambda renew=False: set(names))
        charts.chart_font.cache_clear()

    yield there_are
    charts.chart_font.cache_clear()


ENGLISH = re.compile(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}")  # three plain words in a row


def read_texts(page):
    """The texts of a page between its tags, without style and drawings."""
    page = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return [text.strip() for text in re.split(r"<[^>]*>", page) if text.strip()]


def test_the_page_in_chinese_says_the_same_in_chinese(report, page, fonts):
    fonts()
    chinese = render_report(replace(report, language="zh", split="按时间。", facts={"商品": "30"}))
    assert '<html lang="zh-CN">' in chinese
    assert len(tags_of(chinese)) == len(tags_of(page)) + 1  # the note on fonts
    told = read_texts(chinese)
    assert [text for text in told if ENGLISH.search(text)] == []
    for text in (
        "推荐新商品",
        "已证明",
        "未见效果",
        "有人搜索",
        "全部数字（表格）",
        "2025年3月1日 09:05",
        "nDCG（已评分）@10",
    ):
        assert any(text in one for one in told), text
    figures = [re.findall(r"[-+]?\.\d{4}", " ".join(read_texts(one))) for one in (page, chinese)]
    assert sorted(figures[0]) == sorted(figures[1])


def test_drawings_are_labelled_in_chinese_where_a_font_has_its_signs(report, fonts):
    fonts("DejaVu Sans")
    without = render_report(replace(report, language="zh"))
    assert "没有安装中文字体" in without
    assert "k: length of the list" in without
    fonts("DejaVu Sans", "WenQuanYi Zen Hei")
    assert charts.chart_font("zh") == "WenQuanYi Zen Hei"
    assert charts.chart_language("zh") == "zh"
    assert (charts.chart_language("en"), charts.chart_font("en")) == ("en", None)


@pytest.mark.skipif(charts.chart_font("zh") is None, reason="needs a font with Chinese signs, such as Noto Sans CJK")
def test_a_drawing_in_chinese_keeps_its_text_as_text(report):
    chinese = render_report(replace(report, language="zh"))
    for label in ("k：列表长度", "加上文本模型", "实际发生的比例"):
        assert label in "".join(re.findall(r"<svg.*?</svg>", chinese, flags=re.DOTALL))
    assert "没有安装中文字体" not in chinese
