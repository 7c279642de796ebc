"""The known holes of systems like this one, each tried here. Named after the entry; what it was, in the first line."""

from __future__ import annotations

import ast
import io
import struct
import zipfile
from pathlib import Path

import pytest

from nexus.infra.package import COMMENT, Limits, unpack
from nexus.kernel.errors import NexusError
from nexus.launch.model import RUNS
from tests.security.house import House, routes_of

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).parent.parent.parent / "src" / "nexus"
TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",  # decoded twice
    "%2e%2e/%2e%2e/etc/passwd",
    "..\\..\\etc\\passwd",
    "..%5c..%5cetc%5cpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "....//....//etc/passwd",
    "%00/etc/passwd",
    "C:\\windows\\win.ini",
    "\\\\server\\share",
    "#../../etc/passwd",
    "?../../etc/passwd",
]
# Handed on to the gateway, which is not up here, or out to price lists.
ELSEWHERE = {"/v1/prices/refresh", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
OWNED = Path("/tmp/nexus-owned")
PLAN = {"kind": "command", "roles": [{"name": "main", "argv": ["touch", "/tmp/owned"]}]}


async def test_cve_2023_48022_ray_shadowray_jobs_api_without_auth(house: House) -> None:
    """Ray: whoever reached the jobs API ran code. Here: nobody without a token submits, and nothing is stored."""
    async with house.client(door=True) as stranger:
        answer = await stranger.post("/v1/runs", json={"name": "owned", "plan": PLAN})
    assert answer.status_code == 401
    assert await house.services.records.find(RUNS) == []


async def test_cve_2026_27482_ray_delete_was_forgotten(house: House) -> None:
    """Ray: an allow-list of methods missed DELETE. Here: each route with DELETE refuses strangers, and other sites."""
    ada = await house.tenant("ada", "ours")
    deletes = [path for method, path in routes_of(house.app.routes) if method == "DELETE"]
    assert len(deletes) >= 7
    session = (await house.services.access.exchange(ada.token)).secret
    async with house.client(door=True) as stranger:
        for path in deletes:
            target = path.replace("{node}", ada.ids["node"]).replace("{token_id}", ada.ids["token_id"])
            assert (await stranger.delete(target)).status_code == 401
            for header in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
                page = await stranger.delete(target, headers={"cookie": f"nexus_session={session}", **header})
                assert page.status_code == 403, path


async def test_cve_2025_62593_ray_dns_rebinding_from_a_browser(house: House) -> None:
    """Ray: a page that pointed its name at 127.0.0.1 submitted jobs. Here: that name is not ours."""
    _, token = await house.owner()
    async with house.client(token, door=True, host="rebound.evil.example:7717") as page:
        answer = await page.post("/v1/runs", json={"name": "owned", "plan": PLAN})
    assert answer.status_code == 421
    assert await house.services.records.find(RUNS) == []


async def test_cve_2023_48023_ray_ssrf(house: House) -> None:
    """Ray: the server fetched any URL it was given. Here: inputs name artifacts and models; a URL is no input."""
    _, token = await house.owner()
    async with house.client(token) as client:
        for url in ("http://169.254.169.254/latest/meta-data", "http://127.0.0.1:22", "file:///etc/passwd"):
            plan = {**PLAN, "inputs": {"data": url}}
            answer = await client.post("/v1/runs", json={"name": "ssrf", "plan": plan})
            assert answer.status_code in {400, 404, 422}, answer.text
    assert await house.services.records.find(RUNS) == []


async def test_cve_2023_6019_ray_command_injection(house: House) -> None:
    """Ray: a parameter became part of a shell command. Here: no program is started through a shell from our data."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                shell = [word for word in node.keywords if word.arg == "shell"]
                assert not any(isinstance(word.value, ast.Constant) and word.value.value for word in shell), file
                name = ast.unparse(node.func)
                assert name not in {"os.system", "os.popen", "asyncio.create_subprocess_shell"}, file


def test_cve_2026_5536_fedml_pickle_in_the_message_server() -> None:
    """FedML: messages were unpickled (so were Horovod's CVE-2024-10190, vLLM's CVE-2025-32444, BentoML's CVE-2024-2912,
    label-studio's CVE-2025-5173, FATE's CVE-2020-25459, MLflow's CVE-2024-37052 to -37060, and NVFlare's FOBS,
    CVE-2026-24186). Here: nothing that could run code on loading is imported or called anywhere.
    """
    banned = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle"}
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not banned & {name.partition(".")[0] for name in names}, file
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not called.endswith(("torch.load", "yaml.load", "yaml.unsafe_load", "extractall")), (
                    file,
                    called,
                )
                assert called not in {"eval", "exec", "__import__"}, (file, called)
                allows = [word for word in node.keywords if word.arg in {"allow_pickle", "trust_remote_code"}]
                assert all(isinstance(word.value, ast.Constant) and not word.value.value for word in allows), file


async def test_cve_2026_5536_fedml_a_pickle_is_only_bytes(house: House) -> None:
    """FedML, again, from outside: a pickle that would run code is refused by every route that takes a body."""
    _, token = await house.owner()
    bomb = b"cos\nsystem\n(S'touch /tmp/nexus-owned'\ntR."
    async with house.client(token) as client:
        for method, path in routes_of(house.app.routes):
            if method in {"POST", "PUT"} and path not in ELSEWHERE:
                answer = await client.request(method, path.replace("{", "").replace("}", ""), content=bomb)
                assert answer.status_code != 500, path
    assert not OWNED.exists()  # noqa: ASYNC240


def test_cve_2025_32434_pytorch_weights_only() -> None:
    """PyTorch: `torch.load(weights_only=True)` still ran code. Here: torch.load is not called, safe or not."""
    assert not [file for file in SOURCE.rglob("*.py") if "torch.load(" in file.read_text()]


def test_cve_2025_54886_skops_silent_fallback_to_joblib() -> None:
    """skops: a file of another kind was handed to joblib. Here: a reader of one format refuses all others."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    for content in (b"\x80\x04K\x01.", b"PK\x03\x04", b"", struct.pack("<Q", 2**63) + b"{}"):
        with pytest.raises((SafetensorError, ValueError)):
            load(content)


async def test_cve_2026_24178_nvflare_auth_bypass_through_an_id_of_the_callers_choice(house: House) -> None:
    """NVFlare: an id in the request chose whose rights counted. Here: the token alone says who asks."""
    ada, eve = await house.tenant("ada", "ours"), await house.tenant("eve", "theirs")
    async with house.client(eve.token) as client:
        for query in ({"user": "ada"}, {"project": "ours"}, {"principal": "owner"}, {"subject": ada.run.id}):
            answer = await client.get("/v1/runs", params=query)
            assert ada.run.id not in answer.text
        submission = {"name": "x", "plan": PLAN, "user": "ada", "project": "ours"}
        made = await client.post("/v1/runs", json=submission)
        assert made.status_code in {201, 400, 422}
        if made.status_code == 201:
            assert (made.json()["project"], made.json()["user"]) == ("theirs", "eve")


async def test_nvflare_4422_a_log_in_is_not_replayed(house: House) -> None:
    """NVFlare's audit: an empty nonce let a log-in be used again. Here: codes and join tokens work once."""
    owner, token = await house.owner()
    code = (await house.services.access.login_code(owner)).secret
    join = (await house.services.access.join_token(owner)).secret
    info = {"name": "n", "boot": "1", "capacity": {"cpu": 1, "memory_b": 1, "disk_b": 1}}
    async with house.client() as client:
        assert [(await client.get(f"/login/{code}")).status_code for _ in range(2)] == [303, 401]
        answers = [
            await client.post("/v1/agent/join", json={"info": info}, headers={"authorization": f"Bearer {join}"})
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [201, 401]
    assert token not in str(answers[0].json())


async def test_nvflare_4422_a_session_token_is_signed(house: House) -> None:
    """NVFlare's audit: a token was taken without its signature. Here: a run's token with another's is nobody's."""
    ada, eve = await house.tenant("ada", "ours"), await house.tenant("eve", "theirs")
    mine = house.services.access.run_token(eve.run.id, "theirs")
    forged = mine.replace(eve.run.id, ada.run.id).replace("theirs", "ours")
    async with house.client(mine) as client:
        assert (await client.get("/v1/me")).status_code == 200
    for secret in (forged, mine.rpartition(".")[0] + ".", mine[:-1], mine + "x"):
        async with house.client(secret) as client:
            assert (await client.get("/v1/me")).status_code == 401


async def test_nvflare_4422_a_stranger_cannot_report_a_jobs_end(house: House) -> None:
    """NVFlare's audit: anybody could report a failure. Here: a node speaks of the tasks that are leased to it."""
    ada, eve = await house.tenant("ada", "ours"), await house.tenant("eve", "theirs")
    token = await house.services.access.node_token(eve.ids["node"], "theirs")
    async with house.client(token) as node:
        for path in (
            f"/v1/agent/tasks/{ada.run.id}/logs?offset=0&epoch=1",
            "/v1/agent/tasks/task_0/logs?offset=0&epoch=1",
        ):
            assert (await node.post(path, content=b"x")).status_code in {404, 409}


async def test_cve_2023_1177_mlflow_traversal(house: House) -> None:
    """MLflow: paths in artifact and model routes left their folder (also CVE-2023-2356, -2780, -6730, -6831,
    CVE-2024-1560, CVE-2025-11201, CVE-2026-2614). Here: what is asked for is a row, never a path.
    """
    ada = await house.tenant("ada", "ours")
    places = [
        *("/v1/artifacts/{}", "/v1/artifacts/{}/content", "/v1/models/{}", "/v1/models/{}/versions/1", "/v1/blobs/{}"),
        *(f"/v1/runs/{ada.run.id}/metrics/{{}}", f"/runs/{ada.run.id}/artifacts/{{}}", "/v1/runs/{}/logs"),
        *("/v1/templates/{}", "/static/-/{}", "/store/{}", "/models/{}", "/v1/fleets/{}"),
    ]
    async with house.client(ada.token) as client:
        for place in places:
            for payload in TRAVERSALS:
                answer = await client.get(place.format(payload))
                assert answer.status_code < 500, place.format(payload)
                assert "root:" not in answer.text, place.format(payload)


async def test_cve_2024_27132_mlflow_what_a_job_made_is_no_page(house: House) -> None:
    """MLflow: an artifact with a script ran in the browser. Here: bytes leave as a download that nothing shows."""
    ada = await house.tenant("ada", "ours")
    async with house.client(ada.token, door=True) as client:
        answer = await client.get(f"/v1/blobs/{ada.ids['digest']}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_cve_2025_11200_mlflow_empty_and_default_passwords(house: House) -> None:
    """MLflow: a user could have an empty password (also CVE-2025-1474). Here: there is none until a long one is set."""
    _, token = await house.owner()
    async with house.client(token) as client:
        for password in ("", " ", "password"):
            for user in ("owner", "admin"):
                answer = await client.post("/v1/login", json={"user": user, "password": password})
                assert answer.status_code == 401
            assert (await client.put("/v1/users/owner/password", json={"password": password})).status_code == 400


def test_cve_2026_4137_mlflow_folders_that_others_can_write_to(tmp_path: Path) -> None:
    """MLflow: temporary folders were open to everybody. Here: what a server and an agent make is their owner's."""
    import stat

    from nexus.app.home import Home

    home = Home(tmp_path / "fresh")
    home.prepare()
    home.key()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in home.path.iterdir())


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:evil", "a\0b", "./a", "a//b"])
def test_fedml_zip_extractall_packages_leave_their_folder(tmp_path: Path, name: str) -> None:
    """FedML: packages were unpacked with extractall, ten times. Here: a path that is not plain is refused whole."""
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.comment = COMMENT
        entry = zipfile.ZipInfo("x")
        entry.filename = entry.orig_filename = name
        packed.writestr(entry, b"evil")
    with pytest.raises(NexusError):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "into").exists()


def test_zip_bombs_are_stopped_by_what_comes_out(tmp_path: Path) -> None:
    """Of any of them: 200 kB that become 200 MB. Here: what comes out is counted while it does."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.comment = COMMENT
        packed.writestr("zeros", bytes(50_000_000))
    archive = tmp_path / "bomb.zip"
    archive.write_bytes(held.getvalue())
    with pytest.raises(NexusError):
        unpack(archive, tmp_path / "into", Limits(total_b=1_000_000))
    assert not (tmp_path / "into").exists()
