"""verl's FSDP engine on packed rows. Two hooks, around verl's own: what goes into the model, what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from verl_care.packing import architectures, attention, media
from verl_care.packing.layout import Layout, Scored, pack, scored
from verl_care.packing.rows import column, group_keys, lengths

if TYPE_CHECKING:
    from tensordict import TensorDict

MODEL_TYPE = "packed_language_model"
"""The key of the engines in verl's registry: `actor_rollout_ref.model.model_type`."""
WANTED = "logits_wanted_in"
"""In a batch, the name of a field with a bool per response token: log-probabilities are wanted of these alone."""


class GroupPacking:
    """Mixin before verl's `FSDPEngineWithLMHead`: a micro-batch becomes one row, each group's prompt in it once.

    Log-probabilities and entropies come out as verl has them, a nested tensor over prompt and response of each row, and
    0 where none was computed: inside the prompts, which nothing reads, and outside of the tokens wanted.
    """

    module: nn.Module

    def __init__(self, model_config: Any, *args: Any, **kwargs: Any):
        architectures.check(model_config.hf_config)
        model_config.model_type = "language_model"  # verl's name for what to load; ours has only chosen the engine
        super().__init__(model_config, *args, **kwargs)  # type: ignore[call-arg]
        self._hidden_S: Tensor | None = None

    def _build_module(self) -> nn.Module:
        # A packed row has no padding, and verl's removal of it would put its own attention into the layers.
        self.use_remove_padding = False
        module = super()._build_module()  # type: ignore[misc]
        use_packed_attention(module)
        module.get_output_embeddings().register_forward_pre_hook(self._only_scored)
        return module

    def _only_scored(self, _head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Of all hidden states those that predict a scored token; logits of the others would only take memory."""
        return (inputs[0][:, self._hidden_S], *inputs[1:])

    def forward_backward_batch(self, data: TensorDict, *args: Any, **kwargs: Any) -> Any:
        from verl.utils import tensordict_utils as tu

        tu.assign_non_tensor(data, keep_groups=True)  # read by compat's `prepare_micro_batches`
        return super().forward_backward_batch(data, *args, **kwargs)  # type: ignore[misc]

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        from verl.utils import tensordict_utils as tu

        layout = pack(*lengths(micro_batch), group_keys(micro_batch)).on(micro_batch["input_ids"].device)
        model_inputs, _ = super().prepare_model_inputs(packed_rows(micro_batch, layout))  # type: ignore[misc]
        model_inputs[attention.PLAN] = attention.Plan.of(layout)
        wanted = tu.get_non_tensor_data(micro_batch, WANTED, None)
        places = scored(layout, None if wanted is None else column(micro_batch, wanted))
        self._hidden_S = places.hidden_S
        return model_inputs, {"scored": places}

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        places: Scored = output_args["scored"]
        tokens, temperature = micro_batch["input_ids"], micro_batch["temperature"]
        labels_S = tokens.values()[places.label_S]
        of_one = not isinstance(temperature, Tensor)
        args = {
            "input_ids_rmpad_rolled": labels_S,
            "temperature_rmpad": torch.full((1,), temperature, device=tokens.device).expand(len(labels_S))
            if of_one
            else temperature.float()[places.row_S],
            "temperature_is_one": of_one and float(temperature) == 1.0,
            "pad_size": 0,
        }
        rows = as_unpadded(micro_batch, torch.nested.nested_tensor_from_jagged(labels_S, places.offsets))
        outputs = super().prepare_model_outputs(output, args, rows, logits_processor_func)  # type: ignore[misc]
        return {name: _spread(value.values(), places.place_S, tokens) for name, value in outputs.items()}


def use_packed_attention(module: nn.Module, kind: str = attention.SPLIT) -> None:
    """Packed attention in the language model; the vision tower keeps its own."""
    config: Any = module.config
    text = getattr(config, "text_config", None)
    module.set_attn_implementation(kind if text is None else {"text_config": kind})  # type: ignore[operator]


def packed_rows(micro_batch: TensorDict, layout: Layout) -> TensorDict:
    """The micro-batch with a row per group: its prompt, its responses behind it, its pixels once."""
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    ends = [group.answers.stop for group in layout.groups]
    offsets = torch.tensor([0, *ends], device=layout.flat_T.device)
    rows = {}
    for name in ("input_ids", "position_ids"):
        values = micro_batch[name].values()[..., layout.flat_T]
        rows[name] = torch.nested.nested_tensor_from_jagged(values, offsets, jagged_dim=values.dim())
    packed = TensorDict(rows, batch_size=[len(ends)])
    if "multi_modal_inputs" in micro_batch.keys():  # noqa: SIM118 - a TensorDict is no dict
        inputs = column(micro_batch, "multi_modal_inputs")
        of_groups = media.complete([inputs[group.rows[0]] for group in layout.groups])
        tu.assign_non_tensor_stack(packed, "multi_modal_inputs", of_groups)
    tu.assign_non_tensor(packed, use_remove_padding=True, temperature=1.0)
    return packed


def as_unpadded(micro_batch: TensorDict, labels: Tensor) -> TensorDict:
    """The micro-batch as if it held the scored tokens and nothing else, without padding."""
    from verl.utils import tensordict_utils as tu

    rows = micro_batch.copy()
    rows["input_ids"] = labels
    tu.assign_non_tensor(rows, use_remove_padding=True)
    return rows


def _spread(value_S: Tensor, place_S: Tensor, like: Any) -> Tensor:
    """Values at their flat places, 0 elsewhere, nested as the tokens are."""
    flat = value_S.new_zeros(like.values().size(0)).index_copy(0, place_S, value_S)
    return torch.nested.nested_tensor_from_jagged(flat, like.offsets())
