"""A folder pushed to a stand-in of the Hub: what arrives is what was sent, and every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.exports.hub import check_repository, upload
from tests.exports.hub_stand_in import OLD_SPELLING, TOKEN, Hub, hub_stand_in, use

pytestmark = OLD_SPELLING

CARD = "---\nlicense: mit\ntags:\n- timm\n---\n\n# mine\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_stand_in() as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 300)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arrived(hub: Hub, name: str = "me/mine") -> dict[str, bytes]:
    return {path: content for path, content in hub.repositories[name].files.items() if path != ".gitattributes"}


def test_what_arrives_is_what_was_sent(hub: Hub, folder: Path) -> None:
    commit = upload(folder, "me/mine")
    assert arrived(hub) == contents(folder)
    assert hub.repositories["me/mine"].private
    assert commit.private
    assert commit.url == f"{hub.endpoint}/me/mine/commit/{commit.revision}"
    assert len(hub.repositories["me/mine"].commits) == 1
    upload(folder, "me/open", public=True)
    assert not hub.repositories["me/open"].private


def test_a_repository_that_holds_something_is_not_changed_unless_asked(hub: Hub, folder: Path) -> None:
    upload(folder, "me/mine")
    before = arrived(hub)
    (folder / "README.md").write_text(CARD + "second\n")
    with pytest.raises(UserError, match=r"me/mine is there and holds README.md, model.safetensors") as error:
        upload(folder, "me/mine")
    assert error.value.next == "--overwrite"
    assert arrived(hub) == before
    hub.repositories["me/mine"].files |= {"model.onnx": b"of the weights before", "NOTES": b"a person's"}
    upload(folder, "me/mine", overwrite=True, replaced=["model.onnx", "README.md"])
    assert arrived(hub) == {**contents(folder), "NOTES": b"a person's"}


def test_a_public_repository_is_not_filled_in_private(hub: Hub, folder: Path) -> None:
    upload(folder, "me/open", public=True)
    with pytest.raises(UserError, match="is public: anyone would see"):
        upload(folder, "me/open", overwrite=True)
    assert upload(folder, "me/open", overwrite=True, public=True).private is False


def test_a_push_that_was_cut_off_goes_on(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between attempts
    hub.drop.add("/api/models/me/mine/commit")
    with pytest.raises(UserError, match="could not be reached, or the connection was lost") as error:
        upload(folder, "me/mine")
    assert error.value.next == "run the same command again"
    assert arrived(hub) == {}
    hub.drop.clear()
    sent = [request for request in hub.requests if request.startswith("PUT")]
    upload(folder, "me/mine")
    assert arrived(hub) == contents(folder)
    assert [request for request in hub.requests if request.startswith("PUT")] == sent, "nothing is sent twice"


@pytest.mark.parametrize(
    ("path", "status", "words", "says"),
    [
        ("/api/whoami-v2", 401, "Invalid credentials", "does not accept the token of this machine"),
        ("/api/repos/create", 403, "No rights here", "may not write to me/mine: No rights here"),
        ("/api/repos/create", 409, "You already created it", "the name me/mine is taken: You already created it"),
        ("/api/repos/create", 400, "Bad name", r"refuses the push to me/mine \(400\): Bad name"),
        ("/api/whoami-v2", 429, "Slowly", "asks to wait"),
        ("/api/repos/create", 500, "Broken", r"has a fault \(500\)"),
        ("/me/mine.git/info/lfs", 403, "Your storage is full", "may not write to me/mine: Your storage is full"),
        ("/upload/", 403, "Expired", "may not write to me/mine: Expired"),
    ],
)
def test_a_refusal_is_one_sentence(hub: Hub, folder: Path, path: str, status: int, words: str, says: str) -> None:
    hub.refuse[path] = (status, words)
    with pytest.raises(UserError, match=says) as error:
        upload(folder, "me/mine")
    assert error.value.next
    assert TOKEN not in f"{error.value} {error.value.allowed} {error.value.next}"
    assert "me/mine" not in hub.repositories or arrived(hub) == {}


def test_somebody_elses_name_is_refused(hub: Hub, folder: Path) -> None:
    with pytest.raises(UserError, match="may not write to you/mine: You don't have the rights"):
        upload(folder, "you/mine")


def test_without_a_token_nothing_is_begun(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="there is no token") as error:
        upload(folder, "me/mine")
    assert error.value.next == "hf auth login"
    assert hub.requests == []


def test_offline_and_without_a_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="could not be reached, or the connection was lost"):
        upload(folder, "me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        upload(folder, "me/mine")


@pytest.mark.parametrize("name", ["mine", "a/b/c", "me/", "me/a b", "me/-mine", "me/a--b", "me/" + "n" * 97])
def test_what_is_no_name_is_refused_without_a_network(name: str) -> None:
    with pytest.raises(UserError, match=r"USER|name") as error:
        check_repository(name)
    assert name in error.value.message
    check_repository("me/resnet50-plants_2.1")
