"""A saved model as MLflow loads it: rows in, the columns of their predictions out."""

import pandas as pd

from tune_app.prediction.model import Model


class ServedModel:
    """Model of MLflow's flavour ``python_function``.

    Args:
        folder: model folder.
    """

    def __init__(self, folder: str) -> None:
        self._model = Model(folder, device=None, budget_gib=None, precision="auto")

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """Return the columns that ``headroom predict`` adds to these rows.

        Raises:
            UserError: a row cannot be read.
        """
        predicted = self._model.predict(model_input)
        return predicted[list(self._model.adds)]


def _load_pyfunc(folder: str) -> ServedModel:
    """Load a model folder; MLflow calls this function by its name."""
    return ServedModel(folder)
