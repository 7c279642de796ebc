"""Handwritten digits, learned by several processes at once; goes on from its checkpoint when one of them dies.

nexus launch examples/ddp/job.yaml
torchrun --nproc-per-node 2 examples/ddp/train.py --epochs 2
python examples/ddp/train.py --epochs 2
"""

import argparse
import os
import signal

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import nexus
from nexus.train import ddp
from nexus.train.checkpoint import Checkpoints
from nexus.train.torchstate import optimizer_state, restore_optimizer

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch", type=int, default=32, help="examples per process and step")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--checkpoint-every", type=int, default=20, help="steps")
parser.add_argument("--crash-at", type=int, default=0, help="the last process kills itself at this step, once")
options = parser.parse_args()

digits = load_digits()  # 1,797 real handwritten digits
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
labels = torch.tensor(digits.target)
held_out = torch.arange(len(labels)) % 5 == 0
train, test = (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def batch_of(step: int, group: ddp.Group) -> torch.Tensor:
    """Which examples this process sees at this step: a function of seed and step, so a restart changes nothing."""
    whole = options.batch * group.world
    epoch, place = divmod(step, len(train[1]) // whole)
    order = torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(options.seed + epoch))
    start = place * whole + group.rank * options.batch
    return order[start : start + options.batch]


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return float((model(test[0]).argmax(1) == test[1]).float().mean())


def main() -> None:
    attempt = int(os.environ.get("NEXUS_ATTEMPT", "0"))
    checkpoints = Checkpoints(every=options.checkpoint_every)
    torch.manual_seed(options.seed)
    plain = build()

    with ddp.init() as group:
        model = group.wrap(plain)
        optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
        steps = options.epochs * (len(train[1]) // (options.batch * group.world))
        start = 0
        found = group.share(checkpoints.latest() if group.is_first else None, "model", "optimizer")
        if found is not None:
            start, tensors = found
            plain.load_state_dict(tensors["model"])
            restore_optimizer(optimizer, tensors["optimizer"])
        if group.is_first:
            print(f"attempt {attempt}: {group.world} processes, from step {start} of {steps}", flush=True)
            nexus.param(vars(options) | {"world": group.world, "steps": steps})

        for step in range(start, steps):
            if step == options.crash_at > 0 and attempt == 0 and group.rank == group.world - 1:
                print(f"process {group.rank} kills itself at step {step}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            rows = batch_of(step, group)
            loss = functional.cross_entropy(model(train[0][rows]), train[1][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            whole = group.mean(loss)
            if group.is_first:
                nexus.log({"loss": whole}, step=step)
                if checkpoints.due(step + 1):
                    checkpoints.save(
                        step + 1,
                        {"model": plain.state_dict(), "optimizer": optimizer_state(optimizer)},
                        {"seed": options.seed},
                    )
                    print(f"step {step + 1}/{steps}  loss {whole:.4f}  accuracy {accuracy(plain):.1%}", flush=True)

        if group.is_first:
            final = accuracy(plain)
            nexus.log({"accuracy": final}, step=steps)
            done = checkpoints.save(steps, {"model": plain.state_dict()}, {"accuracy": final})
            nexus.artifact(
                "digits-ddp", done.path / "tensors.safetensors", kind="model", meta={"accuracy": f"{final:.4f}"}
            )
            print(f"done: accuracy {final:.1%}", flush=True)


if __name__ == "__main__":
    main()
