"""The checks of a preflight, each a finding in the doctor's words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TextIO

from omegaconf import DictConfig

from recipes.preflight import memory, rows
from recipes.preflight.model_size import ModelSize, local_config, model_size
from verl_care.checks import check, resume
from verl_care.doctor.finding import FAIL, NOTE, OK, Finding
from verl_care.settings import CareConfig, CareConfigError

GIB = 2**30
SAMPLE = 16  # rows of each file that are decoded
MEASURED = 8192  # rows of each file whose headers are read: all that a run on SEED-Bench-R1 sees


class Preflight:
    """One run, as composed. Every method is a check; `checks` lists them in order."""

    def __init__(self, config: DictConfig, sample: int = SAMPLE, progress: TextIO | None = None):
        """`progress`: where the bars go, if it is a terminal."""
        self.config, self._sample, self._progress = config, sample, progress
        self._training_rows: list[int] = []
        """Of each training file that could be read."""
        self._names: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
        """Of the rows of training files, and of validation files, that were read so far."""

    def checks(self) -> Iterator[Callable[[], Finding]]:
        yield self.configuration
        yield self.machine
        for key in ("train_files", "val_files"):
            for file in rows.files_of(self.config, key):
                yield _named("data", partial(self.data, file, training=key == "train_files"))
                yield _named("prompts", partial(self.prompts, file))
            if key == "train_files":
                yield self.steps
        yield self.update_memory
        yield self.generation_memory
        yield self.host_memory
        yield self.disk

    def configuration(self) -> Finding:
        try:
            resume.check(check(self.config), self.config)
        except CareConfigError as error:
            return Finding(FAIL, "recipe", str(error), "the override named there")
        trainer, data = self.config.trainer, self.config.data
        group = f"{data.train_batch_size} x {self.config.actor_rollout_ref.rollout.n} responses"
        steps = trainer.total_training_steps
        length = f"{trainer.total_epochs} epoch(s) in steps" if steps is None else f"{steps} steps"
        return Finding(OK, "recipe", f"{length} of {group}; its settings go together")

    def machine(self) -> Finding:
        from verl.plugin.platform import get_platform

        trainer = self.config.trainer
        if trainer.device == "cpu":
            return Finding(OK, "machine", f"{trainer.n_gpus_per_node} rank(s) on this machine's CPU")
        here = 0 if get_platform().device_name == "cpu" else get_platform().device_count()
        asked = f"{trainer.nnodes} x {trainer.n_gpus_per_node} {trainer.device}"
        if not here:
            return Finding(
                NOTE, "machine", f"{asked} asked for, none here: what follows is estimated", "care/platform=cpu"
            )
        if here < trainer.n_gpus_per_node:
            return Finding(FAIL, "machine", f"{asked} asked for, {here} here", f"trainer.n_gpus_per_node={here}")
        return Finding(OK, "machine", f"{asked} asked for, {here} here")

    def data(self, file: Path, *, training: bool) -> Finding:
        try:
            found = rows.survey(file, self.config.data, self._progress)
        except rows.BadData as error:
            return Finding(FAIL, "data", str(error), "prepare it again: README.md of the recipe")
        if training:
            self._training_rows.append(found.rows)
        doubt = self._doubt_about_names(found, training)
        shown = f"{file.name}: {found.rows} rows ({', '.join(f'{n} {kind}' for kind, n in found.kinds.most_common())})"
        if found.missing:
            text = f"{shown}; {len(found.missing)} media files are not there, the first {found.missing[0]}"
            return Finding(FAIL, "data", text, "python -m data_prep.check_media, and train on what it writes")
        others = [kind for kind in found.kinds if kind != "multiple choice"]
        if training and self.config.care.bonus == "refgen" and others:
            text = f"{shown}: care.bonus=refgen judges multiple choice only"
            return Finding(FAIL, "data", text, "care.bonus=hard")
        if doubt:
            return Finding(NOTE, "data", f"{shown}; {doubt}", "an extra_info.id of its own for each row")
        return Finding(OK, "data", shown)

    def _doubt_about_names(self, found: rows.Survey, training: bool) -> str | None:
        """Rows without an id, or with that of another row: a run needs none, but what comes behind it does."""
        before = self._names[training]
        twice = [name for name, count in found.names.items() if count > 1 or name in before]
        before.update(found.names)
        doubts = [f"{found.nameless} rows have no extra_info.id"] if found.nameless else []
        if twice:
            source, row_id = twice[0]
            doubts.append(f"{len(twice)} ids stand more than once, {row_id} of {source} among them")
        if not doubts:
            return None
        refused = "" if training else ", and an evaluation refuses these"
        return f"{' and '.join(doubts)}: the report knows a question by its id{refused}"

    def steps(self) -> Finding:
        """Are all training files together enough? Behind `data`, which counts their rows."""
        trainer, data = self.config.trainer, self.config.data
        if trainer.get("val_only"):
            return Finding(OK, "steps", "none: trainer.val_only")
        if len(self._training_rows) < len(rows.files_of(self.config, "train_files")):
            return Finding(NOTE, "steps", "not counted: a training file cannot be read", "as said there")
        count, most = sum(self._training_rows), data.get("train_max_samples", -1)
        if 0 < most < count:
            count = most
        an_epoch = count // data.train_batch_size
        if not an_epoch:
            text = f"{count} training rows make no step of data.train_batch_size={data.train_batch_size}"
            return Finding(FAIL, "steps", text, f"more rows, or data.train_batch_size={count}")
        wanted = trainer.total_training_steps
        text = f"{count} training rows: {an_epoch} steps an epoch, {trainer.total_epochs} epoch(s)"
        if wanted is not None and an_epoch * trainer.total_epochs < wanted:
            epochs = -(-wanted // an_epoch)
            return Finding(FAIL, "steps", f"{text}, for {wanted} steps", f"trainer.total_epochs={epochs}")
        return Finding(OK, "steps", text)

    def prompts(self, file: Path) -> Finding:
        if self._model_config is None:
            return Finding(NOTE, "prompts", f"{file.name}: not made, {self._no_model}", self._get_model)
        from verl_care.data.prompt_length import UnknownProcessor

        limit = self.config.data.max_prompt_length
        made = rows.sample(self.config, file, self._sample, self._progress)
        text = f"{file.name}: {len(made.lengths)} made with their pixels"
        try:
            measured = rows.measured(self.config, file, MEASURED, self._progress)
            text = f"{file.name}: {len(measured.lengths)} measured, {len(made.lengths)} made with their pixels"
        except UnknownProcessor:
            measured = made
        failures = [*made.failures, *measured.failures]
        if failures:
            text = f"{text}; {len(failures)} not, {failures[0]}"
            return Finding(FAIL, "prompts", text, "python -m data_prep.check_media, and train on what it writes")
        longest = max(*made.lengths, *measured.lengths)
        if longest > limit:
            text = f"{text}; the longest has {longest} tokens, above data.max_prompt_length={limit}"
            return Finding(FAIL, "prompts", text, "python -m data_prep.prompt_lengths, and train on what it writes")
        return Finding(OK, "prompts", f"{text}; the longest has {longest} of {limit} tokens")

    def update_memory(self) -> Finding:
        return self._gpu_memory("GPU, update", memory.update)

    def generation_memory(self) -> Finding:
        found = self._gpu_memory("GPU, rollout", memory.generation)
        if self._size is None or found.status != OK or self.config.trainer.device == "cpu":
            return found
        least, share = memory.vllm_least(self._size, self._plan), self._plan.vllm_share * self._plan.gpu_bytes
        if least > share:
            text = f"vLLM needs at least {least / GIB:.0f} GiB and may take {share / GIB:.0f}"
            return Finding(FAIL, found.subject, text, "a larger actor_rollout_ref.rollout.gpu_memory_utilization")
        return found

    def _gpu_memory(self, subject: str, stage: Callable[[ModelSize, memory.Plan], list[memory.Line]]) -> Finding:
        if self.config.trainer.device == "cpu":
            return Finding(OK, subject, "none needed")
        if self._size is None:
            return Finding(NOTE, subject, f"not estimated: {self._no_model}", self._get_model)
        lines, room = stage(self._size, self._plan), self._plan.gpu_bytes
        text = f"{_table(lines)} of {room / GIB:.0f}"
        if memory.total(lines) <= room:
            return Finding(OK, subject, text)
        worst = max(lines, key=lambda line: line.bytes)
        return Finding(FAIL, subject, f"{text}: {worst.name} is too big", worst.mend)

    def host_memory(self) -> Finding:
        import psutil

        if self._size is None:
            return Finding(NOTE, "host memory", f"not estimated: {self._no_model}", self._get_model)
        lines, here = memory.host(self._size, self._plan), psutil.virtual_memory().total
        text = f"{_table(lines)} a node; this machine has {here / GIB:.0f}"
        if memory.total(lines) <= here:
            return Finding(OK, "host memory", text)
        worst = max(lines, key=lambda line: line.bytes)
        training_here = self.machine().status == OK
        return Finding(FAIL if training_here else NOTE, "host memory", f"{text}; {worst.name} is the most", worst.mend)

    def disk(self) -> Finding:
        trainer = self.config.trainer
        if trainer.save_freq <= 0:
            return Finding(OK, "disk", "no checkpoints asked for")
        if self._size is None:
            return Finding(NOTE, "disk", f"checkpoints not estimated: {self._no_model}", self._get_model)
        root = Path(trainer.default_local_dir).absolute()
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        one = memory.checkpoint(self._size, self._plan)
        steps = trainer.total_training_steps
        keep = 1 if trainer.get("remove_previous_ckpt_in_save") else trainer.max_actor_ckpt_to_keep
        keep = keep if keep and keep > 0 else None  # all, as verl reads it
        if keep is not None:
            kept = 1 + keep  # the old one goes when the new one is whole
        elif steps is None:
            text = f"every {trainer.save_freq} steps {one / GIB:.1f} GiB that stay; {free / GIB:.0f} free in {there}"
            return Finding(NOTE, "disk", text, "max_actor_ckpt_to_keep=1 to keep the newest alone")
        else:
            kept = -(-steps // trainer.save_freq)
        text = f"{kept} checkpoints of {one / GIB:.1f} GiB; {free / GIB:.0f} free in {there}"
        if kept * one > free:
            return Finding(
                FAIL, "disk", text, "trainer.default_local_dir on a larger disk, or max_actor_ckpt_to_keep=1"
            )
        return Finding(OK, "disk", text)

    @cached_property
    def _model_config(self) -> object | None:
        return local_config(self.config.actor_rollout_ref.model.path)

    @cached_property
    def _size(self) -> ModelSize | None:
        return None if self._model_config is None else model_size(self._model_config)

    @cached_property
    def _plan(self) -> memory.Plan:
        needs_reference = CareConfig.from_config(self.config).needs_reference(self.config)
        gpu_bytes = int(self.config.hardware.gpu_gib * GIB)
        return memory.Plan.of(self.config, gpu_bytes=gpu_bytes, reference=needs_reference)

    @property
    def _no_model(self) -> str:
        return f"{self.config.actor_rollout_ref.model.path} is not on this disk"

    @property
    def _get_model(self) -> str:
        return f"hf download {self.config.actor_rollout_ref.model.path}, or actor_rollout_ref.model.path=FOLDER"


def _table(lines: list[memory.Line]) -> str:
    parts = ", ".join(f"{line.name} {line.bytes / GIB:.1f}" for line in lines if line.bytes)
    return f"{memory.total(lines) / GIB:.0f} GiB ({parts})"


def _named(name: str, check: Callable[[], Finding]) -> Callable[[], Finding]:
    """The check under a name, which is what is shown if it breaks."""

    def named() -> Finding:
        return check()

    named.__name__ = name
    return named
