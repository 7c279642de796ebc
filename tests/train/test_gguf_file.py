"""The exported file holds the model, to the value, and llama.cpp answers as transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.kernel.errors import JobError, UsageError
from tests.train.tiny import TEMPLATE, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.torch


def export(path: Path, *, precision: str = "f16", tied: bool = True) -> tuple[Any, Any]:
    from gguf import GGUFReader

    from nexus.train.adapters.gguf_file import write_gguf

    model = tiny_model(tied=tied)
    write_gguf(model, tiny_tokenizer(), path, name="tiny", precision=precision, pretokenizer="smollm")
    return model, GGUFReader(path)


def values(reader: Any, name: str) -> Any:
    from gguf.quants import dequantize

    (tensor,) = (one for one in reader.tensors if one.name == name)
    return dequantize(tensor.data, tensor.tensor_type)


def unpermuted(array: Any, heads: int) -> Any:
    """llama.cpp's order of rotary rows, back to transformers': written independently of the exporter."""
    size = array.shape[0] // heads
    order = [head * size + 2 * (row % (size // 2)) + row // (size // 2) for head in range(heads) for row in range(size)]
    return array[order]


NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight",
    "blk.1.attn_k.weight": "model.layers.1.self_attn.k_proj.weight",
    "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
    "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
    "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
    "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
    "blk.1.attn_norm.weight": "model.layers.1.input_layernorm.weight",
    "blk.1.ffn_norm.weight": "model.layers.1.post_attention_layernorm.weight",
}


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_every_value_comes_back(tmp_path: Path, precision: str) -> None:
    model, reader = export(tmp_path / "tiny.gguf", precision=precision)
    assert len(reader.tensors) == 2 + 2 * 9
    for name, original in NAMES.items():
        found, wanted = values(reader, name), model.state_dict()[original].numpy()
        if "attn_q" in name or "attn_k" in name:
            found = unpermuted(found, 4 if "attn_q" in name else 2)
        if wanted.ndim == 1:
            assert np.array_equal(found, wanted), name
        elif precision == "f16":
            assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32)), name
        else:
            blocks = np.abs(wanted).reshape(-1, 32).max(axis=1, keepdims=True) / 127  # one scale for 32 values
            off = np.abs(found - wanted).reshape(-1, 32)
            assert (off <= blocks * 0.57).all(), name  # half a step, and 127 times the rounding of the scale to f16
            assert off.max() > 0, "or it was not quantised at all"


def test_tokens_and_template_come_back(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    _, reader = export(tmp_path / "tiny.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["tokenizer.chat_template"] == TEMPLATE
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert fields["tokenizer.ggml.tokens"][:320] == tokenizer.convert_ids_to_tokens(range(len(tokenizer))) + [
        f"[PAD{number}]" for number in range(len(tokenizer), 320)
    ]
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert fields["llama.rope.freq_base"] == 10000.0


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    model, reader = export(tmp_path / "tiny.gguf", tied=False)
    wanted = model.lm_head.weight.detach().numpy().astype(np.float16)
    assert np.array_equal(values(reader, "output.weight"), wanted.astype(np.float32))


def test_llama_cpp_says_what_transformers_says(tmp_path: Path) -> None:
    import torch

    from nexus.train.adapters import engine_check

    model, _ = export(tmp_path / "tiny.gguf")
    tokenizer = tiny_tokenizer()
    prompts = ["The capital of", "Name a colour. Red"]
    (first, second) = engine_check.answers(tmp_path / "tiny.gguf", prompts, tokens=6, threads=1)
    for prompt, said in zip(prompts, (first, second), strict=True):
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        out = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False, pad_token_id=2, eos_token_id=2)
        assert said == tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)


def test_a_file_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    from nexus.train.adapters import engine_check

    (tmp_path / "broken.gguf").write_bytes(b"GGUF and then nothing")
    with pytest.raises(JobError, match=r"llama\.cpp cannot use broken\.gguf"):
        engine_check.answers(tmp_path / "broken.gguf", ["a"], tokens=2, threads=1)


def test_what_cannot_be_said_leaves_no_file(tmp_path: Path) -> None:
    from nexus.train.adapters.gguf_file import write_gguf

    model, tokenizer = tiny_model(), tiny_tokenizer()
    with pytest.raises(UsageError, match="no precision 'q2'"):
        write_gguf(model, tokenizer, tmp_path / "a.gguf", name="tiny", precision="q2")
    model.config.rope_parameters = {"rope_type": "yarn", "rope_theta": 1.0}
    with pytest.raises(UsageError, match="yarn"):
        write_gguf(model, tokenizer, tmp_path / "a.gguf", name="tiny", precision="f16")
    assert not list(tmp_path.iterdir())
