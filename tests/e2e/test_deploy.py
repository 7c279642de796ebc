"""Deploy as a user has it: real server, agent, registry, replicas, gateway."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.house import REPOSITORY, House, until

pytestmark = pytest.mark.slow


def token(house: House) -> str:
    return house.http.token


def pixels() -> tuple[list[dict[str, list[float]]], list[int]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return [{"pixels": image.tolist()} for image in images[:50]], labels[:50].tolist()


class Load(threading.Thread):
    """A client that asks without a pause until it is told to stop."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self.url, self.key = url, key
        self.stopped = False
        self.problems: list[str] = []
        self.revisions: list[int] = []
        self.right = 0

    def run(self) -> None:
        images, labels = pixels()
        with httpx.Client(headers={"authorization": f"Bearer {self.key}"}, timeout=30) as http:
            while not self.stopped:
                turn = len(self.revisions) % len(images)
                try:
                    answer = http.post(self.url + "/predict", json=images[turn])
                except httpx.HTTPError as problem:
                    self.problems.append(repr(problem))
                    return
                if answer.status_code != 200:
                    self.problems.append(f"{answer.status_code} {answer.text[:200]}")
                    return
                self.right += answer.json()["digit"] == labels[turn]
                self.revisions.append(int(answer.headers["x-nexus-revision"]))


def test_digits_from_the_registry_to_an_endpoint_and_a_new_version_without_a_lost_request(house: House):
    house.up()
    for _ in range(2):
        house.run("launch", "--follow", "--yes", "examples/digits/job.yaml", timeout_s=240)
    job = REPOSITORY / "examples" / "serve-digits" / "job.yaml"
    view = json.loads(house.run("--json", "deploy", str(job), "--model", "digits@1", timeout_s=240))
    assert (view["state"], view["ready"], view["model"]) == ("ready", 2, "model://digits@1")
    assert json.loads(house.run("endpoints", "call", "digits"))["digit"] == 6  # the job file's own example
    assert json.loads(house.run("endpoints", "call", "digits", json.dumps(pixels()[0][0])))["digit"] == 0
    clients = [Load(view["url"], token(house)) for _ in range(3)]
    for client in clients:
        client.start()
    until(lambda: all(len(client.revisions) > 20 for client in clients), "the first answers")
    view = json.loads(house.run("--json", "deploy", "--name", "digits", "--model", "digits@2", timeout_s=240))
    assert (view["state"], view["revision"], view["model"]) == ("ready", 2, "model://digits@2")
    assert json.loads(view["example"])["pixels"][3] == 13  # kept when only the model changes
    counts = [len(client.revisions) for client in clients]
    until(lambda: all(len(c.revisions) > n + 20 for c, n in zip(clients, counts, strict=True)), "the last answers")
    for client in clients:
        client.stopped = True
        client.join(30)
        assert client.problems == []
        assert set(client.revisions) == {1, 2}
        assert client.right / len(client.revisions) > 0.9
    assert house.json("endpoints")[0]["errors"] == 0
    house.run("endpoints", "delete", "digits")
    until(lambda: house.json("endpoints") == [], "the endpoint's end")


def test_chat_from_one_command(tmp_path: Path):
    """`nexus chat` on a machine where nothing runs: server, agent and model come up, and answer."""
    house = House(tmp_path / "home")
    begin = time.monotonic()
    try:
        told = json.loads(house.run("--json", "chat", "--no-browser", timeout_s=120))
        up_s = time.monotonic() - begin
        import openai

        with openai.OpenAI(base_url=told["openai_base_url"], api_key=token(house)) as client:
            assert [model.id for model in client.models.list()] == ["smollm2"]
            answer = client.completions.create(model="smollm2", prompt="The capital of France is", max_tokens=2)
            assert "Paris" in answer.choices[0].text
        with httpx.Client(base_url=house.url, follow_redirects=True, timeout=60) as browser:
            page = browser.get(told["url"])
            assert (page.status_code, "smollm2" in page.text) == (200, True)
            ask = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            said = browser.post("/v1/chat/completions", json=ask, headers={"origin": house.url})  # as the page does
            assert said.json()["choices"][0]["message"]["content"], said.text
            stranger = browser.post("/v1/chat/completions", json=ask, headers={"origin": "http://elsewhere"})
            assert stranger.status_code == 403
        assert up_s < 60
    finally:
        house.run("endpoints", "delete", "smollm2", check=False)  # a replica outlives the server and agent it has
        until(lambda: house.json("endpoints") == [], "the endpoint's end")
        house.run("down", check=False)
        house.down()
