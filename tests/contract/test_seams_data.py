"""What we rely on in verl's data sets when we prepare files for them, a test per seam."""

from types import SimpleNamespace

from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset

from data_prep.common.schema import RL_SCHEMA, SFT_SCHEMA, image_entry, rl_row, video_entry
from tests.contract.seams import parameters, seam, source


def test_marks_become_parts_with_everything_that_the_row_says_of_a_clip():
    row = rl_row(
        data_source="made/up",
        text="What?",
        ground_truth="A",
        videos=[video_entry("folder", 1.0, 2.0, 3.0)],
        images=[image_entry("now.png")],
    )
    names = SimpleNamespace(image_key="images", video_key="videos", audio_key="audios", processor=object())
    (message,) = RLHFDataset._build_messages(names, row, key="prompt")
    expected = [
        {"type": "video", "video": "folder", "video_start": 1.0, "video_end": 2.0, "raw_fps": 3.0},
        {"type": "image", "image": "now.png"},
        {"type": "text", "text": "What?"},
    ]
    seam(message["content"] == expected, "the parts of a prompt", "verl_care.data.prompt_length and clip bounds")


def test_the_columns_of_both_data_sets():
    text = source(RLHFDataset)
    for column in ("prompt", "images", "videos"):
        seam(f'", "{column}")' in text, f"the column {column}", "data_prep.common.schema.RL_SCHEMA")
        seam(column in RL_SCHEMA.names, column, "RL_SCHEMA")
    text = source(MultiTurnSFTDataset)
    for column in ("messages", "images", "videos"):
        seam(f'", "{column}")' in text, f"the column {column}", "data_prep.common.schema.SFT_SCHEMA")
        seam(column in SFT_SCHEMA.names, column, "SFT_SCHEMA")
    seam(parameters(RLHFDataset._build_messages) == ["self", "example", "key"], "_build_messages", "prompt_length")
