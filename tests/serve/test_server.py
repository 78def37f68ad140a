"""Requests to the page's server, and all that it refuses."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Refused
from fakes import Fake
from serving import HOST, MIB, PORT, TOKEN, New, Server, clip, error, new, shared

from rematte.serve.settings import check_settings

__all__ = ["clip", "new", "shared"]  # the fixtures


def test_every_answer_has_the_guarding_headers(shared: Server) -> None:
    for path in ("", "main.js", "nowhere", "api/jobs/none/cancel", f"http://{HOST}/x"):
        headers = shared.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%00", "é"])
def test_a_wrong_token_is_refused(shared: Server, token: str) -> None:
    for path in ("/", "/main.js", "/api/events", "/api/jobs"):
        answer = shared.client.get(f"http://{HOST}/{token}{path}")
        assert "rematte serve" in error(answer, 404)
        answer = shared.client.post(f"http://{HOST}/{token}{path}", content=b"x")
        assert answer.status_code == 404


def test_the_address_without_a_slash_leads_to_the_page(shared: Server) -> None:
    answer = shared.client.get(f"http://{HOST}/{TOKEN}")
    assert answer.headers["location"] == f"/{TOKEN}/"
    assert "<title>rematte" in shared.client.get("").text


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", ""]
)
def test_another_host_is_refused(shared: Server, host: str) -> None:
    """A name of an attacker's that leads to 127.0.0.1 (DNS rebinding)."""
    answer = shared.client.get("", headers={"host": host})
    assert HOST in error(answer, 421)


def test_localhost_is_another_name(shared: Server) -> None:
    headers = {"host": f"localhost:{PORT}", "origin": f"http://localhost:{PORT}"}
    assert shared.client.get("", headers=headers).status_code == 200
    assert shared.client.post("api/jobs", headers=headers).status_code == 400


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", f"https://{HOST}", f"http://{HOST}.evil", ""],
)
def test_other_pages_are_refused(shared: Server, clip: Path, origin: str) -> None:
    for method, path in [
        ("POST", "api/jobs?name=clip.mp4"),
        ("POST", "api/jobs/x/start"),
        ("PUT", "api/jobs/x/background?name=a.png"),
        ("DELETE", "api/jobs/x"),
    ]:
        how = {"content": clip.read_bytes(), "headers": {"origin": origin}}
        answer = shared.client.request(method, path, **how)
        assert "Origin" in error(answer, 403)
    assert not shared.files()


def test_a_request_without_an_origin_is_refused(shared: Server) -> None:
    request = shared.client.build_request("POST", "api/jobs?name=a.mp4", content=b"x")
    del request.headers["origin"]
    assert shared.client.send(request).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        *("", "../../x.mp4", "..\\x.mp4", "/etc/x.mp4", "a\x00.mp4", "a\n.mp4"),
        *("x" * 252 + ".mp4", "x" * 9000 + ".mp4", "..", "clip", "clip.txt", "a.m3u8"),
    ],
)
def test_hostile_names_are_refused(shared: Server, clip: Path, name: str) -> None:
    before = set(shared.folder.parent.rglob("*"))
    answer = shared.upload(clip, name)
    assert error(answer, 400).startswith("name ")
    assert set(shared.folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["%2e%2e%2fx.mp4", "%00.mp4", "a b é 视频 '\"<b>.mp4", "x" * 251 + ".mp4"]
)
def test_odd_names_are_shown_only(shared: Server, clip: Path, name: str) -> None:
    answer = shared.upload(clip, name)
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert shared.job(id)["name"] == name
    assert shared.files() == {f"{id}/source.mp4"}
    shared.remove(id)


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary,\n" * 1000,
        b"\0" * 5000,
        b"",
        b"ffconcat version 1.0\nfile '../../secret.mp4'\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///SECRET\n#EXT-X-ENDLIST\n",
        b"HALF",
    ],
)
def test_what_is_no_video_is_refused(
    shared: Server, clip: Path, tmp_path: Path, content: bytes
) -> None:
    """Lists that name other files too, which FFmpeg would read, and half a video."""
    whole = clip.read_bytes()
    (shared.folder / "secret.mp4").write_bytes(whole)
    content = content.replace(b"SECRET", str(clip).encode())
    content = content.replace(b"HALF", whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_bytes(content)
    answer = shared.upload(tmp_path / "text.mp4")
    assert error(answer, 422).startswith("text.mp4: ")
    assert str(shared.folder) not in error(answer)
    assert not shared.files()
    assert not shared.jobs.listing()


def test_uploads_have_a_limit(new: New, clip: Path) -> None:
    server = new(Fake, limit=1000)
    assert "at most 0.001 MB" in error(server.upload(clip), 413)

    def parts() -> Iterator[bytes]:  # with no length said beforehand
        yield from [b"x" * 600] * 3

    answer = server.client.post("api/jobs?name=a.mp4", content=parts())
    assert answer.status_code == 413
    assert not server.files()


def test_what_does_not_fit_on_the_disk_is_refused(
    shared: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert "do not fit" in error(shared.upload(clip), 507)
    assert not shared.files()


@pytest.mark.parametrize(
    "path",
    [
        *("api/jobs/none/still/frame", "api/jobs/..%2f..%2ftoken/still/frame", "token"),
        *("%2e%2e/server.py", "..%2fserver.py", "../server.py", "%2fetc%2fpasswd"),
        *("api/jobs/none/files/mov", "api/jobs/none/background", "jobs.sqlite"),
    ],
)
def test_nothing_else_can_be_read(shared: Server, path: str) -> None:
    shared.jobs.store.folder("x")
    answer = shared.client.get(f"http://{HOST}/{TOKEN}/{path}")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "settings must be"),
        ({}, "outputs must be a list"),
        ({"outputs": []}, "outputs must be a list"),
        ({"outputs": ["../x"]}, "a list of mov, webm, webp, mp4, alpha"),
        ({"outputs": [{}]}, "outputs must be a list"),
        ({"outputs": ["mov", "webm"]}, "choose one transparent file"),
        ({"outputs": ["mp4"], "background": "/etc/x.png"}, "background must be"),
        ({"outputs": ["mp4"], "background": 3}, "background must be"),
        ({"outputs": ["mp4"], "background": "file:../../x"}, "background must be"),
        ({"outputs": ["mp4"], "background": "ready:../x"}, "background must be"),
        ({"outputs": ["mp4"], "quality": "x"}, "quality must be one of fast, balanced"),
        ({"outputs": ["mp4"], "quality": 2}, "quality must be"),
        ({"outputs": ["mp4"], "preset": "web"}, "preset must be one of resolve, web"),
        ({"outputs": ["webm"], "preset": []}, "preset must be"),
    ],
)
def test_settings_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(settings)


def test_the_command_says_what_fails(
    shared: Server, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for code, folder, words, said in (
        (1, tmp_path, ["--port", "70000"], "--port"),
        (1, shared.folder, [], "give another"),  # another server is on it
        (1, tmp_path / "file", [], "give a folder that can be"),
        (2, tmp_path, ["--jobs", "0"], ""),
        (2, tmp_path, ["--upload-limit", "0"], ""),
    ):
        line = refused(code, "serve", "--folder", folder, "--port", "0", *words)
        assert said in line


def test_a_missing_extra_is_named(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rematte.serve", "rematte.serve.server"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    line = refused(1, "serve", "--folder", tmp_path)
    assert "pip install 'rematte[web]'" in line


def test_large_uploads_are_written_part_by_part(shared: Server, clip: Path) -> None:
    """A video with 25 MB of padding, sent in parts, arrives byte for byte."""
    padding = (25 * MIB).to_bytes(4, "big") + b"free" + b"x" * (25 * MIB - 8)
    whole = clip.read_bytes() + padding

    def parts() -> Iterator[bytes]:
        for begin in range(0, len(whole), 100_000):
            yield whole[begin : begin + 100_000]

    answer = shared.client.post("api/jobs?name=large.mp4", content=parts())
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert (shared.folder / "jobs" / id / "source.mp4").read_bytes() == whole
    shared.remove(id)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[" * 9000, b'{"a":' * 1900, b"\xff\xfe", b"[]", b"null"),
        *(b"9" * 9000, b'{"outputs": ["mp4"], "background": "\\ud800"}'),
        *(
            b'{"outputs": ["mp4"], "quality": %b}' % value
            for value in (b"NaN", b"1e999", b"9" * 4000, b"[" * 900 + b"]" * 900)
        ),
    ],
)
def test_a_bad_body_is_one_line(shared: Server, clip: Path, body: bytes) -> None:
    id = shared.add(clip)
    answer = shared.client.post(f"api/jobs/{id}/start", content=body)
    assert len(error(answer, 400)) < 300
    assert shared.job(id)["state"] == "ready"
    shared.remove(id)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_ctrl_c_does_not_wait_for_a_slow_upload(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rematte", "serve", "--port", "0"]
    with subprocess.Popen(
        [*words, "--folder", tmp_path / "work"], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        try:
            address = server.stdout.readline()  # type: ignore[union-attr]
            _, _, host, token, _ = address.split()[1].split("/")
            head = (
                f"POST /{token}/api/jobs?name=a.mp4 HTTP/1.1\r\nHost: {host}\r\n"
                f"Origin: http://{host}\r\nContent-Length: 1000\r\n\r\nx"
            )
            port = int(host.partition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(head.encode())
                while not [*tmp_path.glob("work/jobs/*/source.mp4")]:
                    time.sleep(0.02)
                server.send_signal(signal.SIGINT)
                _, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert (server.returncode, err) == (0, "")
    assert not [*tmp_path.glob("work/jobs/*/source.mp4")]
