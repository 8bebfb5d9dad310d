"""What a run gives to the trainings of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import filtering_seen, with_markers
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.training.pairs import GradeScale, PairSet, judged_pairs
from retrieval.data.dataset import DataSet
from retrieval.encoders.int8_file import holds_int8
from retrieval.errors import BadBundle, BadConfig
from serving.answering.stages.rank import user_texts
from serving.answering.user_context import UserContexts
from serving.engine import Engine
from serving.fitting import train_ranker as ranker
from serving.fitting.distillation import TEACHERS, at_hand, taught
from serving.fitting.ranker_data import RankerData, Training
from serving.fitting.train_ranker import PairSource, fit_ranker, names_few_items, ranker_data, teacher_of
from serving.settings import RunSettings, read_settings
from serving.shop import Shop

Open = Callable[[Path, RunSettings], Shop]
HARD = "retrieval.text.hard_negatives=1"
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_configured_cross_encoder_scores_pairs_as_the_teacher(tiny_ranker_folder: Path) -> None:
    config = read_settings(changes=[f"ranking.teacher={tiny_ranker_folder}", HARD])
    teacher = teacher_of(config, "cpu")
    assert teacher is not None
    asked, items = ["red mug", "mug"], ["a red mug", "blue lamp"]
    own = CrossEncoderScorer.load(tiny_ranker_folder, device="cpu").score(list(zip(asked, items, strict=True)))
    np.testing.assert_allclose(teacher(asked, items), own, atol=1e-6)


def test_without_one_there_is_no_teacher_and_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert teacher_of(read_settings(), "cpu") is None
    of_the_ranker = [f"ranking.teacher={tmp_path}", "ranking.veto_margin=0"]
    assert teacher_of(read_settings(changes=of_the_ranker), "cpu") is None
    with pytest.raises(BadBundle, match=str(tmp_path)):
        teacher_of(read_settings(changes=[f"ranking.teacher={tmp_path}", HARD]), "cpu")


def pairs(n_groups: int, label: float = 1.0) -> PairSet:
    """Groups of two items each, the first one liked."""
    return PairSet(
        user_texts=[f"red mug {'abc'[n % 3]}" for n in range(n_groups)],
        item_texts=["red mug", "blue lamp", "argan oil"],
        indptr=np.arange(0, 2 * n_groups + 1, 2),
        item=np.array([[0, 1 + n % 2] for n in range(n_groups)]).ravel(),
        label=np.tile(np.array([label, 0], np.float32), n_groups),
    )


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[PairSet]:
    """The pairs of every training of a student, with the labels that it is given."""
    found: list[PairSet] = []

    def noted(pairs: PairSet, teachers: Sequence[Path], device: str) -> PairSet:
        found.append(taught(pairs, teachers, device))
        return found[-1]

    monkeypatch.setattr(ranker, "taught", noted)
    return found


@pytest.mark.parametrize("named", ["{}", '["{}", "{}"]'])
def test_a_ranker_learns_the_logits_of_models_at_hand(
    tiny_bert_folder: Path, tiny_ranker_folder: Path, tmp_path: Path, learned: list[PairSet], named: str
) -> None:
    folders = named.format(tiny_ranker_folder, tiny_ranker_folder)
    config = read_settings(changes=[f"ranking.distil_from={folders}", "ranking.training.examples=96"]).ranking
    assert len(at_hand(config)) == named.count("{}")
    data = RankerData(train=pairs(12), valid=pairs(4), usable=12, proposed=pairs(20, label=9.0))
    training: Training = {"budget": "quick", "device": "cpu", "say": lambda _: None}
    fit_ranker(data, config, start=str(tiny_bert_folder), out=tmp_path / "ranker", work=tmp_path / "work", **training)
    own = CrossEncoderScorer.load(tiny_ranker_folder, device="cpu")
    wanted = own.score([("red mug a", "red mug"), ("red mug a", "blue lamp"), ("red mug b", "red mug")])
    np.testing.assert_allclose(learned[0].label[:3], wanted, atol=1e-5)
    assert not (tmp_path / "work" / TEACHERS).exists()


def test_two_kinds_of_teacher_and_a_folder_without_a_model_are_refused(
    tmp_path: Path, tiny_ranker_folder: Path
) -> None:
    with pytest.raises(BadConfig, match="two kinds of teacher"):
        read_settings(changes=["ranking.ensemble=2", f"ranking.distil_from={tiny_ranker_folder}"])
    with pytest.raises(BadBundle, match=str(tmp_path)):
        at_hand(read_settings(changes=[f"ranking.distil_from={tmp_path}"]).ranking)


def test_a_ranker_learns_the_mean_logits_of_seeds(
    tiny_bert_folder: Path, tmp_path: Path, learned: list[PairSet]
) -> None:
    changes = ["ranking.ensemble=2", "ranking.training.examples=96", "ranking.precision=int8"]
    config, said, work = read_settings(changes=changes).ranking, list[str](), tmp_path / "work"
    assert config.distils
    data = RankerData(train=pairs(12), valid=pairs(4), usable=12, proposed=pairs(20, label=9.0))
    training: Training = {"budget": "quick", "device": "cpu", "say": said.append}
    out = tmp_path / "ranker"
    run = fit_ranker(data, config, start=str(tiny_bert_folder), out=out, work=work, **training)
    assert (run.examples, holds_int8(out)) == (96, True)
    assert any("teachers: 2 seeds, budget 96" in line for line in said)
    assert any("distilled on 40 pairs, budget 96" in line for line in said)
    folders = [work / TEACHERS / number for number in "01"]
    models = [CrossEncoderScorer.load(folder, device="cpu") for folder in folders]
    assert len({model.fingerprint for model in models}) == 2
    logits = np.mean([model.score([("red mug a", "red mug"), ("red mug a", "blue lamp")]) for model in models], axis=0)
    np.testing.assert_allclose(learned[0].label[:2], logits, atol=1e-5)
    made = [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders]
    fit_ranker(data, config, start=str(tiny_bert_folder), out=tmp_path / "again", work=work, **training)
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders] == made  # kept, not trained again
    others = replace(data, train=pairs(13))
    fit_ranker(others, config, start=str(tiny_bert_folder), out=tmp_path / "other", work=work, **training)
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders] != made


@pytest.fixture(scope="module")
def mined(
    engine: Engine, sample_folder: Path, quick_settings: RunSettings, open_shop: Open
) -> Callable[..., tuple[RankerData, list[str]]]:
    """The pairs of a run over the engine's own stages under changed settings, and what was said."""
    shop = open_shop(sample_folder, quick_settings)

    def found(
        *changes: str, marked: bool = False, known: Shop = shop, cross_fit: Callable[[], list[PairSource]] = list
    ) -> tuple[RankerData, list[str]]:
        said, changes = list[str](), ("ranking.judged_negatives=true", *changes)
        settings = read_settings(base=quick_settings.model_dump(), changes=changes).ranking
        data = ranker_data(
            known, with_markers(filtering_seen(engine.state, False), marked=marked), settings, seed=0, device="cpu",
            cross_fit=cross_fit, say=said.append,
        )  # fmt: skip
        return data, said

    return found


@pytest.mark.parametrize(
    ("items_of_queries", "few"), [([1, 1, 1], True), ([1, 2, 2], True), ([2, 2], False), ([], False)]
)
def test_queries_of_one_judged_item_show_no_worse_candidate(items_of_queries: list[int], few: bool) -> None:
    query = np.repeat(np.arange(len(items_of_queries)), items_of_queries)
    pairs = judged_pairs(
        query, np.arange(len(query)), np.ones(len(query)), query_texts=["q"] * 3, item_texts=["i"] * 9,
        scale=GradeScale(0.0, 2.0),
    )  # fmt: skip
    assert names_few_items(pairs) is few


def test_a_veto_leaves_drawn_negatives_out_of_what_is_learned_and_out_of_nothing_else(
    mined: Callable[..., tuple[RankerData, list[str]]], data: DataSet, tiny_ranker_folder: Path
) -> None:
    plain, silent = mined("ranking.strategy=shallow")
    judge = (f"ranking.teacher={tiny_ranker_folder}", "ranking.veto_margin=0")
    vetoed, said = mined("ranking.strategy=shallow", *judge)
    for before, after in ((plain.valid, vetoed.valid), (plain.proposed, vetoed.proposed)):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(after.item, before.item)
        assert (after.label == 0).any()
    assert data.judgements is not None
    assert data.queries is not None
    judged = {
        (data.queries.texts[query], item)
        for query, item in zip(data.judgements.query, data.judgements.item, strict=True)
    }
    teacher, wanted = CrossEncoderScorer.load(tiny_ranker_folder, device="cpu"), list[tuple[str, set[int]]]()
    for group, text in enumerate(plain.train.user_texts):
        before = plain.train.select(np.array([group]))
        logits = teacher.score([(text, before.item_texts[item]) for item in before.item])
        given = (before.label > 0) | np.array([(text, item) in judged for item in before.item])
        best = logits[(before.label == before.label.max())].min()
        assert (np.abs(logits - best) > 1e-6)[~given].all()  # nothing hangs on rounding
        kept = given | (logits < best) if before.label.max() else np.ones(len(before), bool)
        if len(set(before.label[kept])) > 1 or len(set(before.label)) == 1:
            wanted.append((text, set(before.item[kept].tolist())))
    groups = [vetoed.train.select(np.array([group])) for group in range(vetoed.train.n_groups)]
    assert [(group.user_texts[0], set(group.item.tolist())) for group in groups] == wanted
    assert len(vetoed.train) < len(plain.train)
    assert vetoed.usable == vetoed.train.n_groups < plain.usable
    assert not any("veto" in line for line in silent)
    assert sum(line.startswith("veto: ") and " pairs stay, in " in line for line in said) == 2


def test_a_veto_of_everything_is_refused_once_cross_fitted_towers_were_asked_too(
    mined: Callable[..., tuple[RankerData, list[str]]],
    sample_folder: Path,
    quick_settings: RunSettings,
    tiny_ranker_folder: Path,
    open_shop: Open,
) -> None:
    unjudged, asked = replace(open_shop(sample_folder, quick_settings), judgements=None), list[bool]()
    everything = (f"ranking.teacher={tiny_ranker_folder}", "ranking.veto_margin=1000000", "ranking.cross_fit_below=1")

    def cross_fit() -> list[PairSource]:
        asked.append(True)
        return []

    with pytest.raises(BadConfig, match=r"ranking\.veto_margin=1000000\.0 leaves no negative to learn from; lower it"):
        mined(*everything, known=unjudged, cross_fit=cross_fit)
    assert asked
    judged, said = mined(*everything)  # what is judged to be bad stays
    assert (judged.train.label == 0).any()
    assert any(line.startswith("veto: 0 of ") for line in said)


def test_a_ranker_that_reads_marks_learns_from_queries_as_they_are_served(
    mined: Callable[..., tuple[RankerData, list[str]]], engine: Engine, data: DataSet
) -> None:
    found, _ = mined(marked=True)
    assert data.queries is not None
    texts = data.queries.texts
    served = set(user_texts(with_markers(engine.state, marked=True), UserContexts.nobody(len(texts)), texts))
    asked = [text for text in (*found.train.user_texts, *found.valid.user_texts) if text.startswith("query: ")]
    assert asked
    assert set(asked) <= served
    others = set(found.train.user_texts) - set(asked)
    assert others
    assert all(re.match("(view|click|favourite|cart|purchase|return): ", text) for text in others)
