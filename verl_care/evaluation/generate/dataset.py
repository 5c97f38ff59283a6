"""The questions that verl is to ask: those with samples missing, and of these as many as are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl_care.data.dataset import CareDataset
from verl_care.evaluation.generate.questions import QuestionKey
from verl_care.evaluation.generate.run_folder import missing_samples, rows_in

SAMPLES = "missing_samples"  # in `extra_info`: which numbers verl's sessions 0, 1, ... of this question stand for


class EvaluationDataset(CareDataset):
    """`data.evaluation` names the folder (`run`), the samples of a question and whether failed ones count."""

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        # The last thing that verl does to the rows it has read. Overlong ones stay in: they fail, and are counted.
        # Rows without their media have been written down as failed before verl started (launch.py).
        dataframe = self._with_their_media(dataframe)
        keys = [
            QuestionKey(str(row["data_source"]), str(row["extra_info"]["id"]))
            for row in dataframe.select_columns(["data_source", "extra_info"])
        ]
        options = self.config["evaluation"]
        rows = rows_in(Path(options["run"]))
        self._missing = missing_samples(keys, rows, options["samples"], options["retry_failed"])
        return dataframe.select([place for place, key in enumerate(keys) if key in self._missing])

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = super().__getitem__(item)
        numbers = self._missing[QuestionKey(str(row["data_source"]), str(row["extra_info"]["id"]))]
        row["extra_info"][SAMPLES] = list(numbers)
        row["__rollout_n__"] = len(numbers)
        return row
