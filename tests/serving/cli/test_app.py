"""The command: what it prints, where, and how it ends."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner, Result

from retrieval.errors import GateRefused, ShortlistError
from serving.cli import command_group as commands
from serving.cli.app import app
from serving.cli.ask import item_ids
from serving.cli.demo import show_answers
from serving.engine import Engine
from serving.jobs.run import RunResult

ROOT = Path(__file__).parents[3]
COMMANDS = [
    "check",
    "import",
    "run",
    "train",
    "index",
    "release",
    "recommend",
    "search",
    "similar",
    "cart",
    "evaluate",
    "adopt",
    "sample",
    "demo",
]

GROUPS = ("train", "index", "release")


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def test_help_names_every_command() -> None:
    told = shortlist("--help")
    assert told.exit_code == 0
    assert all(f"  {name} " in told.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [[name] for name in COMMANDS if name not in GROUPS] + [["train", "towers"], ["index", "build"]],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    assert "Usage: shortlist" in shortlist(*command, "--help").stdout


def test_an_answer_as_json_is_one_object_on_stdout(bundle_path: Path, engine: Engine) -> None:
    user = engine.state.user_store.user_ids[0].as_py()
    for arguments in (
        ["recommend", bundle_path, "--user", user],
        ["recommend", bundle_path, "--history", "item-00001,item-00002"],
        ["search", bundle_path, "red mug", "--user", user],
        ["similar", bundle_path, "item-00001"],
        ["cart", bundle_path, "item-00001,item-00002"],
    ):
        told = shortlist(*arguments, "-k", "3", "--device", "cpu", "--json")
        found = json.loads(told.stdout)
        assert told.exit_code == 0
        assert len(found["items"]) == 3
        assert found["release"] == engine.release.id


def test_a_search_says_what_it_searched_for_unless_it_is_to_search_for_what_was_typed(bundle_path: Path) -> None:
    asked = ["search", bundle_path, "titanuim camp stoove", "-k", "2"]
    assert "searched for 'titanium camp stove'" in " ".join(shortlist(*asked).stdout.split())
    assert "searched for" not in shortlist(*asked, "--no-spellcheck").stdout


def test_a_table_shows_the_items_and_what_was_fallen_back_to(bundle_path: Path, engine: Engine) -> None:
    told = shortlist("recommend", bundle_path, "--user", "nobody \udcff", "-k", "2")
    expected = engine.recommend(user_id="nobody", k=2)
    assert told.exit_code == 0
    assert all(hit.item_id in told.stdout and hit.title[:30] in told.stdout for hit in expected.items)
    assert "popular items: nothing is known of who asks" in " ".join(told.stdout.split())


def test_an_answer_says_how_it_came_about_in_the_language_asked_for(bundle_path: Path) -> None:
    asked = ["recommend", bundle_path, "--user", "nobody", "-k", "2", "--language", "zh"]
    told = shortlist(*asked).stdout
    assert "热门商品：还不了解您的喜好" in "".join(told.split())
    assert "召回名次" in told
    found = json.loads(shortlist(*asked, "--json").stdout)
    assert (found["fallbacks"], found["notes"]) == (["popular items"], ["热门商品：还不了解您的喜好"])
    assert shortlist(*asked[:-1], "fr").exit_code == 2


def test_evaluate_prints_one_object_and_its_progress_elsewhere(
    own_bundle: Path, sample_folder: Path, run_result: RunResult, recwarn: pytest.WarningsRecorder
) -> None:
    told = shortlist(
        "evaluate", own_bundle, "--data", sample_folder, "--json", "--rerank-sample", "5", "--device", "cpu",
        "--language", "zh",
    )  # fmt: skip
    found = json.loads(told.stdout)
    assert told.exit_code == 0
    assert set(found) == {"tasks", "gate", "release"}
    assert found["release"] == run_result.release.id
    task = found["tasks"]["recommend"]["seen_removed"]
    assert task["sample"]["n"] <= 5 < task["n"]
    assert set(task["stages"]) < set(task["sample"]["stages"])  # every row of a table is of the same requests
    assert "-- evaluate" in told.stderr
    report = (own_bundle / "report.html").read_text("utf-8")
    assert '<html lang="zh-CN">' in report
    for text in ("<dt>商品</dt>", "<dt>机器</dt>", "行为的划分：", "评分的划分：", "排序训练"):
        assert text in report
    assert "split of" not in report


def test_check_prints_what_a_data_set_holds(sample_folder: Path) -> None:
    told = shortlist("check", sample_folder)
    assert told.exit_code == 0
    assert "the data set is usable" in told.stdout
    assert json.loads(shortlist("check", sample_folder, "--json").stdout)["ok"] is True


def test_a_sample_says_that_it_is_generated(tmp_path: Path) -> None:
    told = shortlist("sample", tmp_path / "shop", "--seed", "3", "--kind", "groceries")
    assert told.exit_code == 0
    assert "nothing is real" in told.stdout
    assert (tmp_path / "shop" / "items.parquet").exists()
    assert "--kind groceries --seed 3" in (tmp_path / "shop" / "README.md").read_text()


def test_a_sample_in_chinese_has_chinese_titles(tmp_path: Path) -> None:
    told = shortlist("sample", tmp_path / "shop", "--language", "zh")
    assert told.exit_code == 0
    titles = pq.read_table(tmp_path / "shop" / "items.parquet")["title"].to_pylist()
    assert any("防水" in title for title in titles)
    assert "--language zh" in (tmp_path / "shop" / "README.md").read_text("utf-8")


def test_a_missing_bundle_is_one_line_with_what_to_run(tmp_path: Path) -> None:
    for arguments in (
        ["similar", "B", "x"],
        ["search", "B", "x"],
        ["evaluate", "B", "--data", "D"],
        ["index", "build", "B", "--data", "D"],
    ):
        told = shortlist(*(tmp_path / "none" if part == "B" else part for part in arguments))
        assert told.exit_code == 2
        assert told.stdout == ""
        assert told.stderr.count("\n") == 1
        assert "shortlist run" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "missing.toml"], "missing.toml"),
        (["--config", "broken.toml"], "broken.toml"),
        (["--set", "ranking.dept=3"], "ranking.dept"),
        (["--set", "ranking"], "room.name=value"),
        (["--max-bad", "3"], "data.max_bad"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, sample_folder: Path, arguments: list[str], named: str) -> None:
    (tmp_path / "broken.toml").write_text("depth = ")
    given = [tmp_path / part if part.endswith(".toml") else part for part in arguments]
    told = shortlist("run", tmp_path / "bundle", "--data", sample_folder, *given)
    assert told.exit_code == 2
    assert named in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ShortlistError("items.parquet: bad\nin two lines"), 2, "error: items.parquet: bad in two lines\n"),
        (GateRefused("recall fell"), 3, "error: recall fell\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ZeroDivisionError("by zero"), 1, "error: internal error, ZeroDivisionError: by zero; "),
        (MemoryError("6 GiB"), 1, "error: memory is full (6 GiB); stop other programs that use it, then run this"),
        (
            torch.OutOfMemoryError("CUDA"),
            1,
            "error: the GPU is full (CUDA); stop other programs that use it, then run this again\n",
        ),
        (RuntimeError("cudaMalloc: out of memory"), 1, "error: the GPU is full (cudaMalloc: out of memory); stop"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "error: memory is full ([Errno 12] Cannot allocate"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: memory is full (DefaultCPUAllocator"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr("retrieval.sample_shop.write.write_sample", raising(error))
    told = shortlist("sample", "nowhere")
    assert told.exit_code == code
    assert told.stdout == ""
    assert told.stderr.startswith(line)
    assert told.stderr.count("\n") == 1


def test_debug_shows_where_a_fault_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.sample_shop.write.write_sample", raising(ZeroDivisionError("by zero")))
    told = shortlist("--debug", "sample", "nowhere")
    assert told.exit_code == 1
    assert "Traceback" in told.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    told = shortlist("--version")
    assert (told.exit_code, told.stdout) == (0, f"shortlist {version('shortlist')}\n")


def test_an_unknown_option_is_told_as_such() -> None:
    told = shortlist("check", "somewhere", "--nonsense")
    assert told.exit_code == 2
    assert "--nonsense" in told.stderr


def test_a_reader_that_has_gone_is_no_fault(sample_folder: Path) -> None:
    check = f"{sys.executable} -c 'from serving.cli.app import app; app()' check {sample_folder}"
    command = f"{check} | true; echo ${{PIPESTATUS[0]}}"
    told = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stderr == ""
    assert told.stdout in ("0\n", "1\n")


def greet(name: str) -> None:
    """Say hello."""
    print(f"hello {name}")


def test_another_room_adds_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("greet", f"{__name__}:greet", commands.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: greet)
    monkeypatch.setattr(commands, "entry_points", lambda group: [entry] if group == commands.ENTRY_POINTS else [])
    assert "Say hello." in shortlist("--help").stdout
    assert shortlist("greet", "you").stdout == "hello you\n"
    assert shortlist("search", "--help").exit_code == 0


def test_a_command_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("greet", "no_such_module:greet", commands.ENTRY_POINTS)
    monkeypatch.setattr(commands, "entry_points", lambda group: [entry])
    told = shortlist("greet", "you")
    assert told.exit_code == 2
    assert "no_such_module" in told.stderr


def test_help_does_not_import_what_commands_need() -> None:
    code = "import sys; from serving.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('torch', 'transformers', 'openvino', 'pyarrow') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code + heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


def test_a_fresh_process_answers_without_torch(bundle_path: Path) -> None:
    code = "import sys; from serving.cli.app import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    command = [sys.executable, "-c", code + heavy, "search", str(bundle_path), "red mug", "--device", "cpu"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
    assert told.stderr == ""


@pytest.mark.parametrize("text", ["[1", "[]x"])
def test_a_broken_list_of_items_is_told(text: str) -> None:
    with pytest.raises(ShortlistError, match="JSON"):
        item_ids(text)


def test_a_demo_ends_with_three_shoppers_a_search_and_a_cart(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    show_answers(engine)
    told = capsys.readouterr().out
    assert told.count("what shopper-") == 3
    assert "viewed" in told
    assert "bought" in told
    assert " ago" in told
    assert told.count("search: ") == 1
    assert told.count("in the cart") == 1
