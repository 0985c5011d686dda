"""Submission to a dataset on a hub: one pull request with identical bytes, also when the connection is lost, and one
sentence when what answers is no hub."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any

import pytest
from dataset_standin import DATASET, TOKEN, DatasetHub
from record_samples import make_llm, make_pass, samples
from submitting import payloads, prepared, round_trip

from fitcheck.errors import InputError
from fitcheck.records.targets import Payload, hub


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite runs with HF_HUB_OFFLINE; these tests talk to 127.0.0.1."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def api_of(standin: DatasetHub) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=standin.address, token=TOKEN)


def test_round_trip_through_a_hub(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass(), make_llm()))
    with DatasetHub() as standin:
        receipt = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert receipt.sent == tuple(payload.path for payload in sent)
        assert receipt.place == f"{standin.address}/datasets/{DATASET}/discussions/1"
        assert standin.everything() == [(f"results/{payload.path}", payload.content) for payload in sent]
        again = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert (again.sent, len(again.kept)) == ((), 2)
        assert again.place == receipt.place
        more = payloads(prepared(tmp_path, make_pass(), make_pass(samples=samples(80.0, 81.0, 82.0), notes="new")))
        assert len(hub.submit(more, DATASET, api_of(standin), "ann").sent) == 1, "only what is new is sent"
        assert len(standin.everything()) == 3
        standin.main |= dict(standin.everything())
        standin.pull_requests.clear()
        assert hub.submit(sent, DATASET, api_of(standin), "ann").sent == ()
        merged = tmp_path / "merged"
        for path, content in standin.main.items():
            (merged / path).parent.mkdir(parents=True, exist_ok=True)
            (merged / path).write_bytes(content)
        assert standin.unknown == []
    round_trip(merged / "results", [*sent, more[1]])


@pytest.mark.parametrize("fault", ["lose_answers", "fail_commits"])
def test_a_lost_connection_leaves_exactly_one_copy(tmp_path: Path, online: None, fault: str) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    faults: dict[str, Any] = {fault: 1}
    with DatasetHub(**faults) as standin:
        receipt = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert standin.everything() == [(f"results/{sent[0].path}", sent[0].content)]
        assert receipt.place.endswith("/discussions/1")


def test_a_hub_that_stays_away_is_one_sentence(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with DatasetHub() as standin:
        api = api_of(standin)
    with pytest.raises(InputError, match="submit again to retry"):
        hub.submit(sent, DATASET, api, "ann")


def test_other_content_on_the_hub_is_not_touched(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with DatasetHub(main={f"results/{sent[0].path}": b"other"}) as standin:
        with pytest.raises(InputError, match="other content"):
            hub.submit(sent, DATASET, api_of(standin), "ann")
        assert standin.pull_requests == []


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b'{"name":5}', b"null", b"", b"\xff"])
def test_a_hub_that_answers_with_something_else_is_one_sentence(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = HfApi(endpoint=f"http://127.0.0.1:{server.server_address[1]}", token=TOKEN)
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
        said: list[str] = []
        for step in (lambda: hub.connect(DATASET), lambda: hub.submit([Payload("x/y", b"{}")], DATASET, api, "ann")):
            try:
                step()
            except InputError as problem:
                said.append(str(problem))
        server.shutdown()
    assert said
    assert all("\n" not in one and one.startswith("--to hub") for one in said)
