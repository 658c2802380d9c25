"""Stand-ins of W&B and MLflow, which use a Keras model and the logs as theirs do."""

from contextlib import contextmanager
from types import ModuleType


def stand_ins():
    """Returns the modules; what was logged is checked when a run of theirs ends."""
    return *_wandb(), *_mlflow()


def _wandb():
    import keras

    class WandbMetricsLogger(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            assert wandb.run is not None, "wandb.init() comes first"

        def on_epoch_end(self, epoch, logs=None):
            rate = float(self.model.optimizer.learning_rate.numpy().item())
            wandb.run.append({**logs, "epoch": epoch, "learning_rate": rate})

    @contextmanager
    def init(project):
        wandb.run = []
        yield wandb.run
        _check(wandb.run)
        wandb.run = None

    wandb, integration = ModuleType("wandb"), ModuleType("wandb.integration")
    of_keras = ModuleType("wandb.integration.keras")
    wandb.run, wandb.init, wandb.integration = None, init, integration
    integration.keras = of_keras
    of_keras.WandbMetricsLogger = WandbMetricsLogger
    return wandb, integration, of_keras


def _mlflow():
    import keras

    class MlflowCallback(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            assert self.model.optimizer.get_config()["name"]
            lines = []
            self.model.summary(print_fn=lambda line, *_, **__: lines.append(line))
            assert lines

        def on_epoch_end(self, epoch, logs=None):
            rows.append({name: float(value) for name, value in logs.items()})

    @contextmanager
    def start_run():
        yield
        _check(rows)

    rows, mlflow, of_keras = [], ModuleType("mlflow"), ModuleType("mlflow.keras")
    mlflow.start_run, mlflow.keras = start_run, of_keras
    of_keras.MlflowCallback = MlflowCallback
    return mlflow, of_keras


def _check(rows):
    assert rows
    for row in rows:
        assert 0 <= row["mean_ap"] <= 1
        assert 0 <= row["rank_1"] <= 1
        assert row["loss"] > 0
