"""`nexus chat`: a chatbot on this machine, in the browser, from one command."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell

BUNDLED = "smollm2"


@click.command()
@click.argument("endpoint", default=BUNDLED)
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@click.pass_obj
def command(shell: Shell, endpoint: str, no_browser: bool) -> None:
    """Chat with ENDPOINT. The default one, smollm2, is a small real language model, deployed here if it is not yet."""
    from urllib.parse import quote

    from nexus.access.faces.client import AccessClient
    from nexus.deploy.faces import jobs, words
    from nexus.deploy.faces.client import DeployClient
    from nexus.deploy.model import EndpointState
    from nexus.kernel.errors import UsageError

    client = DeployClient(shell.http)
    view = client.find(endpoint)
    if endpoint == BUNDLED and (view is None or view.state is EndpointState.FAILED):
        _need_engine(shell.http.url)
        view = client.deploy(jobs.bundled(endpoint))
    elif view is None:
        view = client.show(endpoint)  # raises, with the names there are
    if not view.openai:
        raise UsageError(
            f"{endpoint} is not a language model (its engine is {view.engine})", hint=f"Try: {words.try_it(view)}"
        )
    view = words.watch(shell, client.follow(endpoint, newest=False)) or view
    base = view.url.partition("/e/")[0] + "/v1"
    code = AccessClient(shell.http).login_code().secret
    page = quote(f"/chat?model={endpoint}", safe="/")
    link = f"{shell.http.url}/login/{code}?next={page}"
    if shell.json:
        shell.emit({"url": link, "openai_base_url": base, "model": endpoint})
    shell.say(f"Chat:        {link}")
    shell.say(f"OpenAI API:  base_url={base} model={endpoint} (the key: nexus token show)")
    if not no_browser:
        click.launch(link)


def _need_engine(url: str) -> None:
    """Say at once what a replica on this machine would only say in its log. Raises MissingError."""
    from importlib.util import find_spec
    from urllib.parse import urlsplit

    from nexus.kernel.errors import MissingError

    if urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"} and find_spec("xllamacpp") is None:
        raise MissingError(
            "llama.cpp is not installed here",
            hint="In a clone of the repository: make setup; elsewhere: install Nexus with its extra [llm]. "
            "Then `nexus down` once, so that the agent finds it.",
        )
