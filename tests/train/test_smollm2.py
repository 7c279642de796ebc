"""The real small model: converted once, and exported as the file it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_the_conversion_and_the_export_keep_tokens_and_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize

    from nexus.train.adapters import bases, engine_check
    from nexus.train.adapters.gguf_file import write_gguf

    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path / "cache"))
    said: list[str] = []
    base = bases.find_base("smollm2", said.append)
    assert base.pretokenizer == "smollm"
    assert len(said) == 1
    assert bases.find_base("smollm2", said.append) == base
    assert len(said) == 1, "converted once"

    model, tokenizer = bases.load_base(base)
    path = tmp_path / "again.gguf"
    write_gguf(model, tokenizer, path, name="again", precision="f16", pretokenizer=base.pretokenizer)
    ours, theirs = GGUFReader(path), GGUFReader(bases._packaged("smollm2"))
    for field in ("tokens", "token_type", "merges", "pre", "model", "eos_token_id", "bos_token_id"):
        name = f"tokenizer.ggml.{field}"
        assert ours.fields[name].contents() == theirs.fields[name].contents(), name
    found = {tensor.name: tensor for tensor in ours.tensors}
    assert found.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:  # the cache keeps 8 bits of mantissa, the original 4 bits a weight
        wanted = dequantize(tensor.data, tensor.tensor_type)
        same = dequantize(found[tensor.name].data, found[tensor.name].tensor_type)
        assert np.allclose(same, wanted, rtol=2**-8, atol=1e-6), tensor.name
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    (answer,) = engine_check.answers(path, [prompt], tokens=12, threads=1)
    assert "Paris" in answer
