"""Prompt lengths told from headers are those of the token ids that the real processor makes of the decoded media."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from PIL import Image
from transformers import (
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from verl.utils import hf_processor
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer import build_multimodal_processor_inputs

from data_prep import prompt_lengths, seed_bench_r1
from data_prep.common.schema import image_entry, rl_row, video_entry
from data_prep.miniature import write_world
from recipes.quickstart.stages import CHECKPOINT
from tests.unit.clips import write_clip
from tests.unit.converted import ids_of, rejected_of, rows_of
from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.dataset import CareDataset
from verl_care.data.decoders import MediaError
from verl_care.data.marks import Columns
from verl_care.data.prompt_length import PromptLength, UnknownProcessor


@pytest.fixture(scope="module")
def miniature() -> Any:
    return hf_processor(str(CHECKPOINT))


def with_limits_of_7b(tokenizer: Any, template: str) -> Qwen2_5_VLProcessor:
    limits = {"min_pixels": 4 * 28 * 28, "max_pixels": 16384 * 28 * 28}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=14, merge_size=2, **limits),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=14, merge_size=2, **limits),
        chat_template=template,
    )


def qwen3(tokenizer: Any, template: str) -> Qwen3VLProcessor:
    return Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=16, merge_size=2, min_pixels=64 * 1024, max_pixels=16384 * 1024),
        tokenizer,
        Qwen3VLVideoProcessor(patch_size=16, merge_size=2, temporal_patch_size=2),
        chat_template=template,
    )


@pytest.fixture(scope="module", params=["miniature", "of 7B", "Qwen3-VL"])
def processor(request: pytest.FixtureRequest, miniature: Any) -> Any:
    make = {"miniature": lambda *_: miniature, "of 7B": with_limits_of_7b, "Qwen3-VL": qwen3}[request.param]
    return make(miniature.tokenizer, miniature.chat_template)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    write_world(world, seed=0, rows=60, level_rows=1)
    seed_bench_r1.convert(world, world / "data")
    return world


def real_length(row: dict[str, Any], processor: Any, video: dict[str, Any] | None = None) -> int:
    """verl's way: its dataset's messages, our decoding, the processor on the pixels."""
    dataset = object.__new__(CareDataset)
    dataset.image_key, dataset.video_key, dataset.audio_key, dataset.processor = "images", "videos", "audios", processor
    messages = RLHFDataset._build_messages(dataset, row, key="prompt")
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    config = OmegaConf.create({"video": video or {}})
    patch = processor.image_processor.patch_size
    images, videos, _ = asyncio.run(CareDataset.process_multi_modal_info(messages, patch, config))
    inputs = build_multimodal_processor_inputs(processor, text=[text], images=images, videos=videos)
    return len(inputs["input_ids"][0])


def length(row: dict[str, Any], processor: Any, **video: Any) -> int:
    return PromptLength(processor, VideoBudget(**video), ImageBudget())(row)


def made_row(text: str = "What next?", videos: Any = (), images: Any = ()) -> dict[str, Any]:
    entries = {"videos": [video_entry(str(v)) for v in videos], "images": [image_entry(str(i)) for i in images]}
    return rl_row(data_source="made/up", text=text, ground_truth="A", id="1", problem_type="OCR", **entries)


def test_the_miniatures_rows(world: Path, processor: Any) -> None:
    rows = rows_of(world / "data", "training_6k")
    assert {len(row["videos"]) for row in rows} == {0, 1}
    lengths = [length(row, processor) for row in rows]
    assert lengths == [real_length(row, processor) for row in rows]


@pytest.mark.parametrize(("clips", "pictures"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)])
def test_every_mixture_of_media(tmp_path: Path, processor: Any, clips: int, pictures: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", width=330, height=190)
    Image.fromarray(np.zeros((97, 501, 3), np.uint8)).save(tmp_path / "now.png")
    row = made_row("Then <b>what</b>?\n", [clip] * clips, [tmp_path / "now.png"] * pictures)
    found = length(row, processor)
    assert found == real_length(row, processor)


SIZES = [(16, 16), (56, 56), (400, 30), (1280, 720)]
BUDGETS: list[dict[str, Any]] = [
    {},
    {"fps": 4.0},
    {"fps": 0.3, "min_frames": 2},
    {"max_frames": 6, "max_pixels": 40_000},
]


@pytest.mark.parametrize(("size", "budget"), list(itertools.product(SIZES, BUDGETS)))
def test_sizes_and_budgets(tmp_path: Path, processor: Any, size: tuple[int, int], budget: dict[str, Any]) -> None:
    clip = write_clip(tmp_path / "clip.mp4", width=size[0], height=size[1])
    found = length(made_row(videos=[clip]), processor, **budget)
    assert found == real_length(made_row(videos=[clip]), processor, budget)


@pytest.mark.parametrize(("frames", "fps"), [(1, 8), (3, 8), (5, 30), (59, 10), (200, 10)])
def test_lengths_of_clips(tmp_path: Path, processor: Any, frames: int, fps: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames, fps)
    assert length(made_row(videos=[clip]), processor) == real_length(made_row(videos=[clip]), processor)


def test_by_hand(tmp_path: Path, miniature: Any) -> None:
    """6 frames of 84 x 56 and an image of 112 x 56, patches of 14, merged by 2 x 2: 3 * 6 * 4 / 4 and 8 * 4 / 4."""
    processor = with_limits_of_7b(miniature.tokenizer, miniature.chat_template)
    clip = write_clip(tmp_path / "clip.mp4", width=84, height=56)  # 24 frames at 8 a second: 3 s, 6 frames at 2
    Image.fromarray(np.zeros((56, 112, 3), np.uint8)).save(tmp_path / "now.png")
    text = length(made_row(), processor)
    marks = 2  # start and end of each
    assert length(made_row(videos=[clip]), processor) == text + 18 + marks
    assert length(made_row(images=[tmp_path / "now.png"]), processor) == text + 8 + marks


BOUNDS = [(1.0, 2.0), (2.0, None), (None, 0.5), (2.8, 99.0)]


@pytest.mark.parametrize(("start", "end"), BOUNDS)
def test_parts_of_a_clip_and_of_a_folder_of_frames(
    tmp_path: Path, processor: Any, start: float | None, end: float | None
) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(24):
        Image.new("RGB", (120, 80)).save(tmp_path / "frames" / f"{number}.jpg")
    clip = write_clip(tmp_path / "clip.mp4")
    for entry in (video_entry(clip, start, end), video_entry(str(tmp_path / "frames"), start, end, raw_fps=8.0)):
        row = made_row(videos=[clip]) | {"videos": [entry]}
        assert length(row, processor) == real_length(row, processor)


def test_a_part_without_a_frame(tmp_path: Path, miniature: Any) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    row = made_row(videos=[clip]) | {"videos": [video_entry(clip, 1.01, 1.02)]}
    with pytest.raises(MediaError, match=r"clip\.mp4: no frame between 1\.01 s and 1\.02 s of 3\.00 s"):
        length(row, miniature)


def blank(clip: Path) -> None:
    """Every packet is there still, and its pictures are zeros."""
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 4
    size = int.from_bytes(content[start - 8 : start - 4], "big") - 8
    content[start : start + size] = bytes(size)
    clip.write_bytes(content)


def test_no_frame_is_decoded(tmp_path: Path, miniature: Any) -> None:
    clip = Path(write_clip(tmp_path / "clip.mp4", codec="libx264"))
    row = made_row(videos=[clip])
    expected = length(row, miniature)
    blank(clip)
    assert length(row, miniature) == expected
    with pytest.raises(MediaError):
        real_length(row, miniature)


def test_a_clip_without_a_size(tmp_path: Path, miniature: Any) -> None:
    clip = Path(write_clip(tmp_path / "clip.mp4"))  # MPEG-4 says it in its pictures only
    blank(clip)
    with pytest.raises(MediaError, match=r"clip\.mp4: says no height and width"):
        length(made_row(videos=[clip]), miniature)


class TestWhatARowMayName:
    @pytest.mark.parametrize("kind", ["paths", "pictures", "pixels"])
    def test_frames_and_pixels(self, tmp_path: Path, processor: Any, kind: str) -> None:
        pictures = [Image.new("RGB", (130, 90), (number, 0, 0)) for number in range(9)]
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / f"{number}.png")
        video = {
            "paths": [str(tmp_path / f"{number}.png") for number in range(9)],
            "pictures": pictures,
            "pixels": np.zeros((9, 3, 90, 130), np.uint8),
        }[kind]
        row = made_row(videos=["-"]) | {"videos": [{"video": video, "raw_fps": 3.0}]}
        assert length(row, processor) == real_length(row, processor)

    def test_a_picture_in_the_row(self, processor: Any) -> None:
        row = made_row(images=["-"]) | {"images": [Image.new("RGB", (150, 100))]}
        assert length(row, processor) == real_length(row, processor)

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ({"video": "http://127.0.0.1:9/a.mp4"}, r"http://127\.0\.0\.1:9/a\.mp4: is an address"),
            ({"video": ["http://127.0.0.1:9/1.png"]}, "is an address"),
            ({"video": None}, "neither a path nor frames"),
            ({"video": "a" * 300}, "File name too long"),
            ({"video_start": "0:10"}, r"clip\.mp4: video_start='0:10' is no number"),
            ({"raw_fps": 0}, r"clip\.mp4: raw_fps=0\.0, not above 0"),
        ],
    )
    def test_nothing_else(self, tmp_path: Path, miniature: Any, entry: dict[str, Any], told: str) -> None:
        clip = write_clip(tmp_path / "clip.mp4")
        row = made_row(videos=[clip]) | {"videos": [{"video": clip, **entry}]}
        with pytest.raises(MediaError, match=told):
            length(row, miniature)

    def test_an_image_at_an_address(self, miniature: Any) -> None:
        with pytest.raises(MediaError, match=r"image http://a/b\.png: is an address"):
            length(made_row(images=["http://a/b.png"]), miniature)

    def test_a_clip_that_changed_is_read_again(self, tmp_path: Path, miniature: Any) -> None:
        length_of = PromptLength(miniature, VideoBudget(), ImageBudget())
        row = made_row(videos=[write_clip(tmp_path / "clip.mp4", frames=8)])
        short = length_of(row)
        write_clip(tmp_path / "clip.mp4", frames=24)
        assert length_of(row) == real_length(row, miniature) > short


def test_a_model_whose_grids_are_not_known_is_refused() -> None:
    with pytest.raises(UnknownProcessor, match=r"clips is NoneType.*data.filter_overlong_prompts=true"):
        PromptLength(None, VideoBudget(), ImageBudget())


class TestCommand:
    def test_rows_that_are_too_long_are_left_out_and_named(self, world: Path, tmp_path: Path, miniature: Any) -> None:
        source = world / "data" / "training_6k.parquet"
        rows = rows_of(world / "data", "training_6k")
        length_of = PromptLength(miniature, VideoBudget(), ImageBudget())
        lengths = [length_of(row) for row in rows]
        limit = max(lengths) - 1
        conversion = prompt_lengths.measure([source], tmp_path / "out", length_of, limit)
        kept = [row["extra_info"]["id"] for row, n in zip(rows, lengths, strict=True) if n <= limit]
        assert 0 < len(kept) < len(rows)
        assert ids_of(tmp_path / "out", "training_6k") == kept
        assert pq.read_schema(tmp_path / "out" / "training_6k.parquet").equals(pq.read_schema(source))
        assert rejected_of(tmp_path / "out") == [
            ("training_6k.parquet", number, "prompt", f"is longer than {limit} tokens: has {n}")
            for number, n in enumerate(lengths, start=1)
            if n > limit
        ]
        assert not conversion.tallies["training_6k.parquet"].noticed

    def test_a_file_that_cannot_be_opened_costs_its_row_only(self, tmp_path: Path, miniature: Any) -> None:
        import pyarrow as pa

        from data_prep.common.schema import RL_SCHEMA

        (tmp_path / "clip.mp4").touch()
        clips = [str(tmp_path / "clip.mp4"), "http://a/b.mp4", "a" * 300, write_clip(tmp_path / "good.mp4")]
        still = video_entry(clips[3], raw_fps=0.0)
        rows = [*(made_row(videos=[clip]) for clip in clips), made_row(videos=["-"]) | {"videos": [still]}]
        pq.write_table(pa.Table.from_pylist(rows, schema=RL_SCHEMA), tmp_path / "a.parquet")
        length_of = PromptLength(miniature, VideoBudget(), ImageBudget())
        conversion = prompt_lengths.measure([tmp_path / "a.parquet"], tmp_path / "out", length_of, 100)
        tally, rejected = conversion.tallies["a.parquet"], rejected_of(tmp_path / "out")
        assert [line[:3] for line in rejected] == [("a.parquet", n, "videos or images") for n in (1, 2, 3, 5)]
        named = [tmp_path / "clip.mp4", "http://a/b.mp4", Path("a" * 300).absolute(), clips[3]]
        for (*_, reason), name in zip(rejected, named, strict=True):
            assert reason.startswith(f"cannot be used: clip {name}: ")
        assert [row["videos"] for row in rows_of(tmp_path / "out", "a")] == [[video_entry(clips[3])]]
        assert (tally.rows, tally.rejected.total()) == (1, 4)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["notes.parquet"], "notes.parquet is no parquet file: "),
            (["other.parquet"], "has no data_source, extra_info.problem_type, prompt: give files that"),
            (["a/x.parquet", "b/x.parquet"], "two files have one name"),
        ],
    )
    def test_files_that_are_no_prompts(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        told: str,
    ) -> None:
        import pyarrow as pa

        (tmp_path / "notes.parquet").write_text("no parquet")
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
        monkeypatch.chdir(tmp_path)
        line = ["x", *arguments, "--out", "out", "--model", str(CHECKPOINT), "--max-prompt-length", "9"]
        monkeypatch.setattr("sys.argv", line)
        assert prompt_lengths.main() == 2
        assert told in capsys.readouterr().err


def test_another_number_of_media_than_of_marks(miniature: Any) -> None:
    row = made_row("What next?", ["/nowhere/a.mp4"])
    row["prompt"][0]["content"] = "<video><video>What next?"
    with pytest.raises(MediaError, match=r"2 <video> in prompt, and 1 in videos \(data\.video_key\)"):
        PromptLength(miniature, VideoBudget(), ImageBudget())(row)


def test_columns_of_other_names(tmp_path: Path, miniature: Any) -> None:
    row = made_row("What next?", [write_clip(tmp_path / "clip.mp4")])
    renamed = row | {"clips": row["videos"], "videos": []}
    length_of = PromptLength(miniature, VideoBudget(), ImageBudget(), Columns(video="clips"))
    assert length_of(renamed) == length(row, miniature)
