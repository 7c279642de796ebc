"""Which of the machine's variables a task may see, and how the machine's pip configuration reaches uv.

A list of what passes, not of what does not: a token nobody thought of stays here.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_PASS = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HF_HOME", "TORCH_HOME", "CUDA_HOME", "CUDA_PATH", "OMP_NUM_THREADS"),
    }
)
_PREFIXES = ("LC_", "PIP_", "UV_", "NVIDIA_", "NCCL_", "GLOO_")
_NOT = frozenset({"UV_PUBLISH_TOKEN", "UV_PUBLISH_PASSWORD", "UV_PUBLISH_USERNAME"})


def machine_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What every task on this machine finds, before its order's own."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _PASS or name.startswith(_PREFIXES)) and name not in _NOT
    }


def given_devices(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The accelerators that whoever started this agent left it (a Slurm allocation does), by name, in order."""
    return tuple(filter(None, (name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(","))))


def own_path(environ: Mapping[str, str]) -> str:
    """The PATH of a task without an environment of its own: this program's Python first, then the machine's."""
    here = str(Path(sys.executable).parent)
    rest = [part for part in environ.get("PATH", os.defpath).split(os.pathsep) if part and part != here]
    return os.pathsep.join([here, *rest])


def pip_files(environ: Mapping[str, str]) -> list[Path]:
    """Where pip reads its configuration on this machine, weakest first."""
    home = Path(environ.get("HOME", "/nonexistent"))
    config = Path(environ.get("XDG_CONFIG_HOME", home / ".config"))
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip/pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    return [*files, *([Path(environ["PIP_CONFIG_FILE"])] if environ.get("PIP_CONFIG_FILE") else [])]


def uv_variables(environ: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    """Uv's words for what pip is told by its files and PIP_* variables. What UV_* says already stays.

    With more than one index pip takes the best version of all; uv is told to do the same, for the machine's owner
    has chosen these indexes.
    """
    pip = _pip_settings(environ, files)
    wanted: dict[str, str] = {}
    if pip.get("index-url"):
        wanted["UV_DEFAULT_INDEX"] = pip["index-url"]
    if pip.get("extra-index-url"):
        wanted["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("find-links"):
        wanted["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if pip.get("trusted-host"):
        wanted["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        wanted["UV_NO_INDEX"] = "1"
    if pip.get("timeout") or pip.get("default-timeout"):
        wanted["UV_HTTP_TIMEOUT"] = pip.get("timeout") or pip["default-timeout"]
    if pip.get("cert"):
        wanted["SSL_CERT_FILE"] = pip["cert"]
    taken = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
    return {
        name: value
        for name, value in wanted.items()
        if not environ.get(name) and not environ.get(taken.get(name, name))
    }


def index_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Where pip and uv find packages, for a container, which has not this machine's files."""
    pip = _pip_settings(environ, pip_files(environ))
    words = ("index-url", "extra-index-url", "trusted-host", "timeout")
    told = {"PIP_" + word.replace("-", "_").upper(): pip[word] for word in words if pip.get(word)}
    return uv_variables({}, pip_files(environ)) | told


def _pip_settings(environ: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip would complain of it; the machine's owner will hear it there
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= {name.replace("_", "-"): value.strip() for name, value in parser.items(section)}
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return settings | variables
