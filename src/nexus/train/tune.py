"""Fine-tune a language model: `python -m nexus.train.tune --model smollm2 --data alpaca-demo --name my-assistant`.

The process of a run that `nexus tune` starts; it runs alone just as well. It shows what will be trained, evaluates,
trains adapters, evaluates again, and leaves a folder with the model as one GGUF file, the adapter and a card; in a run,
that folder is the registry's next version of the model. Killed and started again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import nexus
from nexus.kernel.errors import FileError, JobError, NexusError
from nexus.kernel.units import format_seconds
from nexus.train.adapters.datasets import Data, load_data
from nexus.train.adapters.extras import need_extras
from nexus.train.core.conversations import split
from nexus.train.core.masking import Encoded, encode, preview, prompt_text
from nexus.train.model import Conversation, Sample, Score
from nexus.train.options import TuneRequest, request_of, tune_options

if TYPE_CHECKING:
    from nexus.train.adapters.bases import Base
    from nexus.train.adapters.lora import Outcome

Say = Callable[[str], None]
SHOWN, SAMPLES, SAMPLE_TOKENS = 2, 3, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it."""

    folder: Path
    before: Score
    after: Score
    asked: list[Conversation]
    said_before: list[Sample]
    said_after: list[Sample]


def tune(request: TuneRequest, folder: Path, say: Say) -> Result:
    """Do it all; the folder is filled at the end. Raises NexusError."""
    need_extras()
    import torch

    from nexus.train.adapters.bases import find_base, load_base

    threads = int(os.environ.get("OMP_NUM_THREADS") or "1")
    torch.set_num_threads(threads)
    data = load_data(request.data, say)
    rows, held_out = _look_at(data, request, say)
    base = find_base(request.model, say)
    model, tokenizer = load_base(base)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # the agent shows a run the accelerators it asked for
    count = sum(value.numel() for value in model.parameters())
    say(f"base {base.name}: {count / 1e6:.1f} M parameters, on {model.device}")
    _keep_params(request, base, data)
    train, test = _encode(rows, held_out, tokenizer, request, say)
    outcome = _train(request, base, data, (model, tokenizer), (train, test), say)
    result = _compare(outcome, tokenizer, held_out, folder, say)
    _export(request, base, data, result, (outcome.model, tokenizer), threads, say)
    return result


# --------------------------------------------------------------------------- data


def _look_at(data: Data, request: TuneRequest, say: Say) -> tuple[list[Conversation], list[Conversation]]:
    say(f"data {data.name}: {len(data.rows.conversations)} rows, {data.rows.format}")
    for error in data.rows.errors[:10]:
        say(f"  left out line {error.line}: {error.reason}")
    rows, held_out = split(data.rows.conversations, request.settings.held_out, request.settings.seed)
    say(f"  {len(rows)} to train on, {len(held_out)} held out")
    return rows, held_out


def _encode(
    rows: Sequence[Conversation], held_out: Sequence[Conversation], tokenizer: Any, request: TuneRequest, say: Say
) -> tuple[Encoded, Encoded]:
    """Tokens and masks, shown before anything is trained."""
    train = encode(rows, tokenizer, request.settings.length)
    test = encode(held_out, tokenizer, request.settings.length)
    share = train.trained / train.total
    say(f"what is trained: {train.trained} of {train.total} tokens ({share:.0%}), between 「 and 」:")
    for example in train.examples[:SHOWN]:
        say(f"  --- line {example.line}: {example.count} of {len(example.tokens)} tokens")
        for line in preview(example, tokenizer).rstrip().split("\n"):
            say(f"  | {line}")
    if train.cut:
        say(
            f"  {train.cut} of {train.rows} rows were cut at {request.settings.length} tokens, {train.dropped} left out"
        )
    return train, test


# --------------------------------------------------------------------------- training


def _train(
    request: TuneRequest, base: Base, data: Data, loaded: tuple[Any, Any], sets: tuple[Encoded, Encoded], say: Say
) -> Outcome:
    from nexus.train.adapters.lora import Step, Tuner, Watcher
    from nexus.train.checkpoint import Checkpoints
    from nexus.train.evaluate import pad_token

    steps = request.settings.steps

    class Log(Watcher):
        """What happens, as lines and as metrics."""

        done, spent = 0, 0.0  # steps of this process and their seconds, for the time left

        def resumed(self, step: int) -> None:
            say(f"going on from the checkpoint of step {step}")

        def stepped(self, step: Step) -> None:
            speed = step.tokens / max(step.seconds, 1e-9)
            self.done, self.spent = self.done + 1, self.spent + step.seconds
            left = format_seconds((steps - step.number) * self.spent / self.done)
            say(f"step {step.number}/{steps}  loss {step.loss:.4f}  {speed:.0f} tok/s  {left} left")
            values = {"train/loss": step.loss, "train/lr": step.rate, "train/grad_norm": step.norm}
            nexus.log({**values, "train/tokens_per_s": speed}, step=step.number)

        def evaluated(self, step: int, found: Score) -> None:
            say(f"eval at step {step}: loss {found.loss:.4f}, perplexity {found.perplexity:.2f}, {found.tokens} tokens")
            nexus.log({"eval/loss": found.loss, "eval/perplexity": found.perplexity}, step=step)

        def kept(self, step: int) -> None:
            say(f"checkpoint of step {step} is safe")

    model, tokenizer = loaded
    tuner = Tuner(
        model,
        pad=pad_token(tokenizer),
        settings=request.settings,
        checkpoints=Checkpoints(every=request.settings.checkpoint_every),
        watcher=Log(),
        of=f"{base.digest}:{data.digest}",
    )
    count = sum(value.numel() for value in tuner.adapter.values())
    say(f"LoRA rank {request.settings.lora.rank}: {count / 1e6:.2f} M parameters are trained")
    return tuner.run(sets[0].examples, sets[1].examples)


def _compare(outcome: Outcome, tokenizer: Any, held_out: Sequence[Conversation], folder: Path, say: Say) -> Result:
    """Scores and answers before and after, side by side."""
    from nexus.train.evaluate import sample

    asked = list(held_out[:SAMPLES])
    with outcome.model.disable_adapter():  # the base as it was
        before = sample(outcome.model, tokenizer, asked, tokens=SAMPLE_TOKENS)
    after = sample(outcome.model, tokenizer, asked, tokens=SAMPLE_TOKENS)
    for old, new in zip(before, after, strict=True):
        say(f"Q: {old.prompt}")
        say(f"  before: {' '.join(old.answer.split())}")
        say(f"  after:  {' '.join(new.answer.split())}")
    say(f"held-out loss {outcome.before.loss:.4f} -> {outcome.after.loss:.4f}")
    return Result(
        folder=folder,
        before=outcome.before,
        after=outcome.after,
        asked=asked,
        said_before=before,
        said_after=after,
    )


# --------------------------------------------------------------------------- what is kept


def _export(
    request: TuneRequest, base: Base, data: Data, result: Result, trained: tuple[Any, Any], threads: int, say: Say
) -> None:
    from nexus.train.adapters import engine_check
    from nexus.train.adapters.gguf_file import write_gguf
    from nexus.train.adapters.lora import merged

    model, tokenizer = trained
    result.folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(result.folder / "adapter")
    file = result.folder / "model.gguf"
    write_gguf(
        merged(model), tokenizer, file, name=request.name, precision=request.precision, pretokenizer=base.pretokenizer
    )
    say(f"exported {file.name}: {request.precision}, {file.stat().st_size / 1e6:.0f} MB")
    card = _card(request, base, data, result)
    if engine_check.is_here():
        prompts = [prompt_text(tokenizer, row.prompt) for row in result.asked]
        served = engine_check.answers(file, prompts, tokens=SAMPLE_TOKENS, threads=threads)
        if any(one.answer for one in result.said_after) and not any(text.strip() for text in served):
            raise JobError(f"llama.cpp loads {file.name}, but it says nothing", hint="Please report this file.")
        same = sum(text.strip() == one.answer for text, one in zip(served, result.said_after, strict=True))
        say(f"llama.cpp loads it and answers; {same} of {len(served)} answers are word for word those of training")
        card["served"] = served
    (result.folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False))
    meta = {
        "engine": "llama",
        "base": base.name,
        "data": data.name,
        "eval_loss_before": f"{result.before.loss:.4f}",
        "eval_loss_after": f"{result.after.loss:.4f}",
    }
    nexus.artifact(request.name, result.folder, kind="model", meta=meta, copy=False)


def _card(request: TuneRequest, base: Base, data: Data, result: Result) -> dict[str, Any]:
    """Everything that is needed to make it again, and what came of it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "name": request.name,
        "base": {"name": base.name, "sha256": base.digest},
        "data": {"name": data.name, "sha256": data.digest, "format": data.rows.format},
        "settings": asdict(request.settings),
        "precision": request.precision,
        "before": {"loss": result.before.loss, "perplexity": result.before.perplexity},
        "after": {"loss": result.after.loss, "perplexity": result.after.perplexity, "tokens": result.after.tokens},
        "samples": [
            {"prompt": old.prompt, "before": old.answer, "after": new.answer}
            for old, new in zip(result.said_before, result.said_after, strict=True)
        ],
        "cost": {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "memory_b": used.ru_maxrss * 1024},
    }


def _keep_params(request: TuneRequest, base: Base, data: Data) -> None:
    settings = asdict(request.settings)
    lora = settings.pop("lora")
    nexus.param({**settings, **lora, "base": base.name, "data": data.name, "data_sha256": data.digest})


@click.command()
@tune_options
@click.option("--out", default="model", show_default=True, type=click.Path(path_type=Path), help="The folder to fill.")
def main(out: Path, **values: Any) -> None:
    """Fine-tune a language model here, in this process."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries are noise in a log
    began = time.monotonic()
    try:
        result = tune(request_of(**values), out, lambda text: click.echo(text))
    except NexusError as error:
        where = f"{error.where}: " if isinstance(error, FileError) and error.where else ""
        click.echo(f"error: {where}{error.message}", err=True)
        if error.hint:
            click.echo(f"  → {error.hint}", err=True)
        nexus.finish()
        sys.exit(error.exit_code)
    used = resource.getrusage(resource.RUSAGE_SELF)
    click.echo(
        f"done in {format_seconds(time.monotonic() - began)}: {used.ru_utime + used.ru_stime:.0f} CPU-s, "
        f"{used.ru_maxrss / 1e6:.2f} GB at most; the model is in {result.folder}"
    )


if __name__ == "__main__":
    main()
