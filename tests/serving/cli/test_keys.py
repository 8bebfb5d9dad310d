"""`shortlist keys`: a key is shown once; `shortlist serve` asks for one before it listens to other machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from indexing.bundle.bundle import Bundle
from serving.cli.app import app


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle without a release."""
    return Bundle.create(tmp_path / "bundle").path


def test_a_key_is_shown_once_and_listed_without_it(bundle: Path) -> None:
    done = shortlist("keys", "add", bundle, "--name", "shop", "--scope", "read", "--scope", "write")
    assert done.exit_code == 0, done.stderr
    key = done.stdout.strip()
    assert key.startswith("sl_")
    assert "is not shown again" in done.stderr
    listed = shortlist("keys", "list", bundle)
    assert "shop" in listed.stdout
    assert "read, write" in listed.stdout
    told = json.loads(shortlist("keys", "list", bundle, "--json").stdout)["keys"]
    assert set(told[0]) == {"id", "name", "scopes", "created"}
    assert key not in listed.stdout


def test_a_key_is_revoked(bundle: Path) -> None:
    made = json.loads(shortlist("keys", "add", bundle, "--name", "shop", "--scope", "admin", "--json").stdout)
    done = shortlist("keys", "revoke", bundle, made["id"], "--json")
    assert json.loads(done.stdout) == {"revoked": "shop", "id": made["id"]}
    again = shortlist("keys", "revoke", bundle, "shop")
    assert again.exit_code == 2
    assert "has no key shop" in again.stderr


def test_keys_may_lie_elsewhere(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "etc" / "keys.json"
    assert shortlist("keys", "add", bundle, "--name", "a", "--scope", "read", "--keys", file).exit_code == 0
    assert "a" in shortlist("keys", "list", bundle, "--keys", file).stdout
    assert not (bundle / "keys.json").exists()


def test_what_is_no_bundle_and_what_is_no_scope_are_told(tmp_path: Path, bundle: Path) -> None:
    done = shortlist("keys", "add", tmp_path / "none", "--name", "a", "--scope", "read")
    assert (done.exit_code, "there is no bundle at" in done.stderr) == (2, True)
    done = shortlist("keys", "add", bundle, "--name", "a", "--scope", "root")
    assert (done.exit_code, "'root' is not one of" in done.stderr) == (2, True)


def test_other_machines_are_not_served_without_keys(bundle: Path) -> None:
    done = shortlist("serve", bundle, "--host", "0.0.0.0", "--port", "0")
    assert done.exit_code == 2
    assert "0.0.0.0 can be reached from other machines" in done.stderr
    assert f"shortlist keys add {bundle}" in done.stderr
    (bundle / "keys.json").write_text('{"keys": []}')
    assert "has no API keys" in shortlist("serve", bundle, "--host", "0.0.0.0", "--port", "0").stderr


@pytest.mark.parametrize("how", ["keys", "insecure", "loopback"])
def test_with_keys_or_told_so_or_on_this_machine_a_bundle_is_opened(bundle: Path, how: str) -> None:
    if how == "keys":
        shortlist("keys", "add", bundle, "--name", "shop", "--scope", "read")
    host = "127.0.0.1" if how == "loopback" else "0.0.0.0"
    done = shortlist("serve", bundle, "--host", host, "--port", "0", *(["--insecure"] if how == "insecure" else []))
    assert done.exit_code == 2  # for this bundle has no release
    assert "no live release" in done.stderr


def test_a_bundle_with_keys_is_pruned_and_verified_as_before(own_bundle: Path) -> None:
    assert shortlist("keys", "add", own_bundle, "--name", "shop", "--scope", "read").exit_code == 0
    assert shortlist("release", "verify", own_bundle).exit_code == 0
    assert shortlist("release", "prune", own_bundle, "--keep", "1").exit_code == 0
    assert shortlist("release", "list", own_bundle).exit_code == 0
    assert "shop" in shortlist("keys", "list", own_bundle).stdout
