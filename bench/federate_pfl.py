"""The peer's side, run in an environment with pfl: `RANK=0 WORLD_SIZE=2 python federate_pfl.py ROUNDS`.

Prints one JSON line per round: seconds since the rounds began, and CPU seconds of this process.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time

import numpy as np
import torch
from federate_workload import BATCH, COHORT, RATE, SAMPLES, USERS, data, loss, model
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = model()

    def forward(self, x):
        return self.net(x)

    def loss(self, x, y, eval=False):  # noqa: A002 (pfl's word)
        self.eval() if eval else self.train()
        return loss(self(x), y)

    @torch.no_grad()
    def metrics(self, x, y):
        return {"loss": Weighted.from_unweighted(loss(self(x), y).item())}


class Clock(TrainingProcessCallback):
    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"at": time.monotonic(), "cpu": used.ru_utime + used.ru_stime}), flush=True)
        return False, Metrics()


def main() -> None:
    rounds = int(sys.argv[1])
    torch.set_num_threads(1)
    np.random.seed(1)  # noqa: NPY002 (what pfl draws from)
    random.seed(1)
    torch.manual_seed(1)
    x, y = data()
    users = FederatedDataset(
        lambda user: Dataset((x[user], y[user]), user_id=str(user)),
        get_user_sampler("random", list(range(USERS))),
        user_id_to_weight=dict.fromkeys(range(USERS), SAMPLES),
    )
    net = Net()
    wrapped = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds, evaluation_frequency=rounds + 1, train_cohort_size=COHORT, val_cohort_size=0
        ),
        backend=SimulatedBackend(training_data=users, val_data=users),
        model=wrapped,
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=RATE, local_batch_size=BATCH),
        model_eval_params=NNEvalHyperParams(local_batch_size=SAMPLES),
        callbacks=[Clock()],
    )


if __name__ == "__main__":
    main()
