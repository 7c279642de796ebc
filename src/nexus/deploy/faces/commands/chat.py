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
    from nexus.kernel.errors import UsageError

    client = DeployClient(shell.http)
    view = client.find(endpoint)
    if view is None and endpoint == BUNDLED:
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
