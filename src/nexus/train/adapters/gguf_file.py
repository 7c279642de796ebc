"""A fine-tuned model as one GGUF file, which llama.cpp serves: the Llama architecture, as f16 or q8_0.

The official `gguf` package writes the file; the names of tensors, the order of the rows of q and k, and the tokenizer's
fields are llama.cpp's, whose own converter gives the same tensors to the bit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from nexus.kernel.errors import UsageError

PRECISIONS = ("q8_0", "f16")
_BLOCK = 32  # values that share one scale in q8_0
_PLAIN = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(model: Any, tokenizer: Any, path: Path, *, name: str, precision: str, pretokenizer: str = "") -> None:
    """The whole file or none. Raises UsageError for a model or tokenizer that the file cannot say."""
    config = model.config
    if config.model_type != "llama":
        raise UsageError(
            f"a {config.model_type} model cannot be exported", hint="Only the Llama architecture can, yet."
        )
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}", hint=f"One of: {', '.join(PRECISIONS)}.")
    draft = path.with_name(f".{path.name}.draft")
    writer = gguf.GGUFWriter(draft, "llama")
    try:
        _write_config(writer, config, name, precision)
        _write_tokenizer(writer, tokenizer, config.vocab_size, pretokenizer)
        _write_tensors(writer, model, precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except BaseException:
        writer.close()
        draft.unlink(missing_ok=True)
        raise
    writer.close()
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)


def _write_config(writer: Any, config: Any, name: str, precision: str) -> None:
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise UsageError(
            f"positions by {rope['rope_type']} cannot be exported yet", hint="Take a base without scaling."
        )
    heads = config.num_attention_heads
    size = config.head_dim or config.hidden_size // heads
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    kinds = {"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "f16": gguf.LlamaFileType.MOSTLY_F16}
    writer.add_file_type(kinds[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


# --------------------------------------------------------------------------- tokens


def _write_tokenizer(writer: Any, tokenizer: Any, size: int, pretokenizer: str) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    if model["type"] != "BPE" or "ByteLevel" not in json.dumps(described["pre_tokenizer"]):
        raise UsageError(
            "its tokenizer is not a byte-level BPE, which is all that can be exported yet", hint="Take smollm2."
        )
    tokens, types = _tokens(tokenizer, size)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pretokenizer or _pretokenizer(described["pre_tokenizer"]))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges(merges)
    for role, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            role(token)
    writer.add_add_bos_token(False)  # the chat template writes what a conversation begins with
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(tokenizer: Any, size: int) -> tuple[list[str], list[int]]:
    """Every token's text and kind; numbers that no token has are filled."""
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    if max(texts) >= size:
        raise UsageError(
            f"its tokenizer has {max(texts) + 1} tokens, its model only {size}", hint="They do not belong."
        )
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(size):
        tokens.append(texts.get(number, f"[PAD{number}]"))
        if number not in texts:
            types.append(gguf.TokenType.UNUSED)
        elif number in added:
            types.append(gguf.TokenType.CONTROL if added[number].special else gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.NORMAL)
    return tokens, [int(kind) for kind in types]


def _pretokenizer(described: dict[str, Any]) -> str:
    """llama.cpp's name for how text is split before the merges."""
    parts = [part["type"] for part in described.get("pretokenizers", [described])]
    known = {("Digits", "ByteLevel"): "smollm", ("ByteLevel",): "gpt-2"}
    if tuple(parts) not in known:
        raise UsageError(
            f"its tokenizer splits text by {', '.join(parts)}, which has no known name in GGUF",
            hint="Start from a GGUF file of this model: it holds the name.",
        )
    return known[tuple(parts)]


# --------------------------------------------------------------------------- tensors


def _write_tensors(writer: Any, model: Any, precision: str) -> None:
    config, tied = model.config, model.config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        values = tensor.detach().to(torch.float32).cpu().numpy()
        if name.endswith("q_proj.weight"):
            values = _interleave(values, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            values = _interleave(values, config.num_key_value_heads)
        _add(writer, _gguf_name(name), values, precision)


def _gguf_name(name: str) -> str:
    if name in _PLAIN:
        return _PLAIN[name]
    _, _, rest = name.partition("model.layers.")
    layer, _, inner = rest.partition(".")
    part, _, kind = inner.rpartition(".")
    if not layer.isdigit() or part not in _LAYER or kind != "weight":
        raise UsageError(f"the tensor {name} has no name in GGUF", hint="Only plain Llama models can be exported yet.")
    return f"blk.{layer}.{_LAYER[part]}.weight"


def _interleave(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rotary positions pair neighbours in llama.cpp, and halves of a head in transformers."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _add(writer: Any, name: str, values: np.ndarray[Any, Any], precision: str) -> None:
    if values.ndim == 1:  # norms are small, and matter
        writer.add_tensor(name, values)
    elif precision == "q8_0" and values.shape[-1] % _BLOCK == 0:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values.astype(np.float16))
