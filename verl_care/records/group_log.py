"""The groups of each step, from TransferQueue to the run's file. Training goes on where they cannot be written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transfer_queue as tq

from verl_care.agent_loop import FRAME_TIMES
from verl_care.consistency_measures.contradiction import contradiction
from verl_care.packing.rows import column
from verl_care.records import groups, jsonl
from verl_care.records.finish import finish_of
from verl_care.records.row_keys import order_of
from verl_care.scoring import Graded, Judged
from verl_care.settings import CareConfig

logger = logging.getLogger(__name__)


class GroupLog:
    """Appends to the `groups.jsonl.zst` of one run."""

    def __init__(self, folder: Path, tokenizer: Any, care: CareConfig, rollout: Any):
        self.path = groups.place(folder, care.groups_compressed)
        self.rollout = rollout
        self.tokenizer, self.per_step, self.every = tokenizer, care.groups_per_step, care.groups_every
        self.lost = 0
        """Steps whose groups could not be written."""
        self._whole = False

    def start(self, step: int, run: str) -> None:
        """A run starts behind `step`."""
        if self.per_step:
            self._append([groups.start_record(step, run)])

    def wants(self, step: int) -> bool:
        return self.per_step != 0 and (step == 1 or step % self.every == 0)

    def write(self, step: int, judged: Judged, partition_id: str) -> None:
        """Write a step's groups, once its advantages are in TransferQueue."""
        graded = judged.graded
        members: dict[str, list[int]] = {}
        for row in sorted(range(len(graded.keys)), key=lambda row: order_of(graded.keys[row])):
            members.setdefault(graded.uid_N[row], []).append(row)
        names = {uid: _name(graded.extras[rows[0]], uid) for uid, rows in members.items()}
        chosen = groups.choose(names, self.per_step)
        rows = [row for uid in chosen for row in members[uid]]
        responses = dict(zip(rows, self._responses(rows, judged, partition_id), strict=True))
        questions = self._questions([members[uid][0] for uid in chosen], graded, partition_id)
        threshold_N = judged.result.threshold_N.tolist()
        for uid, question in zip(chosen, questions, strict=True):
            for row in members[uid] if question["options"] else ():
                response = responses[row]
                response["measures"]["contradiction"] = contradiction(response["text"], question["options"])
        self._append(
            [
                {
                    "schema": groups.SCHEMA, "kind": "group", "step": step, "uid": uid, **question,
                    "threshold": groups.number(threshold_N[members[uid][0]]),
                    "responses": [responses[row] for row in members[uid]],
                }
                for uid, question in zip(chosen, questions, strict=True)
            ]
        )  # fmt: skip

    def _questions(self, rows: Sequence[int], graded: Graded, partition_id: str) -> list[groups.Record]:
        fields = ["raw_prompt", "data_source", "reward_model", "extra_info"]
        columns = _fetch([graded.keys[row] for row in rows], partition_id, fields)
        data_rows = [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]
        times = [graded.extras[row].get(FRAME_TIMES) for row in rows]
        return [groups.question_record(*pair) for pair in zip(data_rows, times, strict=True)]

    def _responses(self, rows: Sequence[int], judged: Judged, partition_id: str) -> list[groups.Record]:
        graded, likelihood_N, scored, result = judged
        keys = [graded.keys[row] for row in rows]
        columns = _fetch(keys, partition_id, ["prompts", "responses", "rm_scores", "advantages"])
        with_reference = set(scored)
        known = [key for key in keys if key in with_reference]
        log_probs = dict(zip(known, _fetch(known, partition_id, ["ref_log_prob"])[0], strict=True)) if known else {}
        records = []
        for row, key, prompt, ids, score, advantage in zip(rows, keys, *columns, strict=True):
            ids = ids.tolist()
            log_prob = log_probs[key].tolist() if key in log_probs else [float("nan")] * len(ids)
            answer = range(*(graded.spans[row] or (0, 0)))
            records.append(
                groups.response_record(
                    self.tokenizer.decode(ids, skip_special_tokens=True),
                    length=len(ids),
                    finish=finish_of(ids, len(prompt), self.rollout, self.tokenizer) if ids else None,
                    graded=graded.extras[row]["reward_extra_info"],
                    numbers={
                        "likelihood": float(likelihood_N[row]),
                        "bonus": float(result.bonus_N[row]),
                        "reward": float(score.sum()),
                        "advantage": float(advantage[0]),
                    },
                    selected=bool(result.selected_N[row]),
                    answer_tokens=[
                        (self.tokenizer.decode([ids[t]], skip_special_tokens=True), log_prob[t]) for t in answer
                    ],
                )
            )
        return records

    def _append(self, records: Sequence[groups.Record]) -> None:
        """A run is worth more than its log: what cannot be written is counted, and told once."""
        try:
            if not self._whole:
                jsonl.mend(self.path)  # a kill, or a disk that was full, may have left half a line
            self._whole = False
            jsonl.append(self.path, records)
            self._whole = True
        except (OSError, jsonl.Damaged) as error:
            self.lost += 1
            if self.lost == 1:
                logger.warning(
                    "groups cannot be written to %s (%s): training goes on without, and care/groups_lost counts the"
                    " steps. Set care.groups_per_step=0 for none", self.path, error,
                )  # fmt: skip


def _name(extra: dict[str, Any], uid: str) -> str:
    """Of a prompt's question; its uid where the data has no name for it."""
    info = extra["reward_extra_info"]
    return f"{info.get('data_source', '')}/{info['id']}" if info.get("id") else uid


def _fetch(keys: Sequence[str], partition_id: str, fields: Sequence[str]) -> list[list[Any]]:
    data = tq.kv_batch_get(keys=list(keys), partition_id=partition_id, select_fields=list(fields))
    return [column(data, field) for field in fields]
