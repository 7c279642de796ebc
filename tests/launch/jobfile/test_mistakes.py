"""Every mistake in a job file is answered with its place, its field, and the nearest right thing: word for word."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import FileError, UsageError
from nexus.launch.core.jobfile.reading import read_jobs
from tests.launch.jobfile.words import complaint, said

# name -> (the file, where: message → hint)
MISTAKES: dict[str, tuple[str, str]] = {
    "unknown key": (
        "name: x\nrunn: echo hi\n",
        "job.yaml:2:1: unknown key 'runn' → Did you mean `run`?",
    ),
    "unknown key within": (
        "run: x\nresources:\n  gpu: {cuont: 1}\n",
        "job.yaml:3:9: unknown key 'cuont' → Did you mean `count`?",
    ),
    "unknown key like none": (
        "run: x\nretry: {zzz: 1}\n",
        "job.yaml:2:9: unknown key 'zzz' → Known keys here: max, on, backoff.",
    ),
    "not a number": (
        "run: x\nnodes: two\n",
        "job.yaml:2:8: `nodes` needs a whole number, not 'two' → ",
    ),
    "not a size": (
        "run: x\nresources:\n  memory: 16 GBit\n",
        "job.yaml:3:11: `resources.memory`: '16 GBit' is not a size, such as 16GiB or 500MB → ",
    ),
    "a range that ends before it begins": (
        "run: x\nresources: {cpu: 8..4}\n",
        "job.yaml:2:18: `resources.cpu`: the range '8..4' ends before it begins → ",
    ),
    "out of bounds": (
        "run: x\npriority: 101\n",
        "job.yaml:2:11: `priority` must be at most 100, not 101 → ",
    ),
    "one of": (
        "run: x\nnetwork: fats\n",
        "job.yaml:2:10: `network` cannot be 'fats' → Did you mean 'fast'? It is one of: fast, any.",
    ),
    "a name": (
        "name: My Job!\nrun: x\n",
        (
            "job.yaml:1:7: `name`: 'My Job!' is not a name: lower case, digits and . _ - within, 63 characters at most"
            " → Call it 'my-job'."
        ),
    ),
    "a kind": (
        "kind: trian\nrun: x\n",
        "job.yaml:1:7: there is no kind 'trian' → Did you mean `train`?",
    ),
    "a section of another kind": (
        "kind: train\nrun: x\nfederate: {}\n",
        (
            "job.yaml:3:1: the section `federate` belongs to `kind: federate`; this job is of kind train"
            " → Remove it, or write `kind: federate`."
        ),
    ),
    "in a section": (
        "run: x\ntrain: {workers: 0}\n",
        "job.yaml:2:18: `train.workers` must be at least 1, not 0 → ",
    ),
    "nothing to run": (
        "setup: pip install x\n",
        "job.yaml:1:1: the job says nothing to run → Add `run:` with the command.",
    ),
    "an output outside": (
        "run: x\noutputs: [model/, ../x]\n",
        "job.yaml:2:19: `outputs.1`: '../x' is not a path inside the workspace → Write it relative, such as model/ .",
    ),
    "an input from nowhere": (
        "run: x\ninputs: {data: 's3://bucket/x'}\n",
        (
            "job.yaml:2:16: `inputs.data`: 's3://bucket/x' is not an input that Nexus can fetch"
            " → Inputs are artifact://RUN/NAME or model://NAME@VERSION."
        ),
    ),
    "a variable's name": (
        "run: x\nenv: {1A: 2}\n",
        "job.yaml:2:7: `env.1A`: '1A' cannot name an environment variable → Use letters, digits and _ only.",
    ),
    "a variable of Nexus": (
        "run: x\nenv: {NEXUS_TOKEN: stolen}\n",
        (
            "job.yaml:2:7: `env.NEXUS_TOKEN`: NEXUS_TOKEN is set by Nexus for every task"
            " → Give your own variable another name."
        ),
    ),
    "a cause to retry": (
        "run: x\nretry: {on: [exit: 75, oops]}\n",
        (
            "job.yaml:2:24: `retry.on.1`: 'oops' is not a cause to retry on"
            " → Causes: node_lost, spot_reclaimed, exit, signal, setup, timeout, memory, health, exit:CODE."
        ),
    ),
    "a role twice": (
        "roles:\n  - {name: a, run: x}\n  - {name: a, run: y}\n",
        "job.yaml:3:12: two roles are called 'a' → ",
    ),
    "a key twice": (
        "run: x\nname: a\nrun: y\n",
        "job.yaml:3:1: the key 'run' stands here twice → It is also on line 1.",
    ),
    "a tab": (
        "run: x\nenv:\n\tA: 1\n",
        (
            "job.yaml:3:1: this is not YAML: while scanning for the next token found character that cannot start any"
            " token → Indent with spaces; put text that begins with @, `, % or a tab into quotes."
        ),
    ),
    "a colon in text": (
        "run: echo a: b\n",
        (
            "job.yaml:1:12: this is not YAML: mapping values are not allowed in this context"
            " → Put text that contains `: ` into quotes, or give a nested key its own line."
        ),
    ),
    "a tag": (
        "run: !!python/object/new:os.x [id]\n",
        "job.yaml:1:6: the tag !!python/object/new:os.x means nothing here → Remove it: only plain values are read.",
    ),
    "a tag on text": (
        "run: !!python/name:os.system x\n",
        "job.yaml:1:6: the tag !!python/name:os.system means nothing here → Remove it: only plain values are read.",
    ),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
        "job.yaml:4:4: the file has more than 20000 values → Move data into the workspace.",
    ),
    "an alias in itself": (
        "run: &a [*a]\n",
        "job.yaml:1:10: the alias *a holds itself → Set it first: &a VALUE.",
    ),
    "too deep": (
        "run: " + "[" * 100_000,
        "job.yaml:1:46: lists and mappings are nested more than 40 deep → Make the file flatter.",
    ),
    "no mapping": (
        "- run: x\n",
        "job.yaml:1:1: a job file is a mapping of keys to values → Start with `run: COMMAND`.",
    ),
    "nothing": (
        "# to do\n",
        "job.yaml:1:1: the file says nothing → Start with `run: COMMAND`.",
    ),
    "a dialect": (
        "dialect: fdml\njob: x\n",
        "job.yaml:1:10: this dialect is not known → Did you mean `fedml`?",
    ),
    "jobs in a circle": (
        "name: a\nrun: x\nafter: [b]\n---\nname: b\nrun: y\nafter: [a]\n",
        "job.yaml:3:8: jobs wait for each other: a → b → a → Remove one `after`.",
    ),
    "a job that is not there": (
        "name: a\nrun: x\nafter: [traim]\n---\nname: train\nrun: y\n",
        "job.yaml:3:9: a waits for 'traim', which is neither a job in this file nor a run's id → Did you mean `train`?",
    ),
    "two jobs of one name": (
        "name: a\nrun: x\n---\nname: a\nrun: y\n",
        "job.yaml:4:7: two jobs are called 'a' → Give each a `name`.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_word_for_word(name: str) -> None:
    text, expected = MISTAKES[name]
    assert complaint(text) == expected


def test_all_mistakes_are_found_at_once_and_the_first_is_said() -> None:
    with pytest.raises(FileError) as caught:
        read_jobs("nodes: two\nrun: x\nfoo: 1\npriority: -1\n")
    error = caught.value
    assert error.where == "job.yaml:1:8"
    assert error.hint == "(2 more: `nexus job validate` lists them.)"
    assert [problem["field"] for problem in error.details["problems"]] == ["nodes", "foo", "priority"]


OVERRIDES = {
    "nodes": "--set takes PATH=VALUE, not 'nodes' → Example: --set resources.gpu.count=2",
    "=1": "--set takes PATH=VALUE, not '=1' → Example: --set resources.gpu.count=2",
    "resources.gpu.count=2": "`resources.gpu` is 'A100' here, which has no 'count' → Set it whole: --set"
    " resources.gpu=VALUE",
    "ports.3=1": "`ports` is a list of 1, which has no '3' → Number its items from 0, or set the list whole: --set"
    " ports='[...]'",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_that_cannot_be(override: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_jobs("run: x\nresources: {gpu: A100}\nports: [1]\n", overrides=[override])
    assert f"{caught.value.message} → {caught.value.hint}" == OVERRIDES[override]


def test_a_wrong_value_of_an_override_names_the_override() -> None:
    with pytest.raises(FileError) as caught:
        read_jobs("run: x\n", overrides=["nodes=two"])
    assert said(caught.value) == "--set nodes=two: `nodes` needs a whole number, not 'two' → "
    with pytest.raises(FileError) as caught:
        read_jobs("run: x\n", overrides=["nodes=[1"])
    assert caught.value.where == "--set nodes=[1"
