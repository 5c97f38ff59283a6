"""As many media as marks: rows where they differ are told, left out of a data set, and named."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from recipes.quickstart.model import build_processor
from verl_care.data.dataset import CareDataset
from verl_care.data.marks import Columns, mismatch, mismatches

VIDEO, IMAGE = {"video": "a.mp4"}, {"image": "b.png"}


def row(text, videos=(), images=(), **more):
    return {"prompt": [{"role": "user", "content": text}], "videos": list(videos), "images": list(images), **more}


@pytest.mark.parametrize(
    ("text", "media", "reason"),
    [
        ("<video>What?", {"video": 1}, None),
        ("<image>Then<video>what<image>?", {"video": 1, "image": 2}, None),
        ("What?", {"video": 0}, None),
        ("What?", {}, None),
        ("<video><video>What?", {"video": 1}, "2 <video> in prompt, and 1 in videos (data.video_key)"),
        ("What?", {"image": 1}, "0 <image> in prompt, and 1 in images (data.image_key)"),
        ("<video>What?", {"image": 0}, "1 <video> in prompt, and no column videos (data.video_key)"),
        ("<audio>What?", {}, "1 <audio> in prompt, and no column audios (data.audio_key)"),
    ],
)
def test_marks_and_media(text, media, reason):
    assert mismatch(row(text)["prompt"], media, Columns()) == reason


def test_marks_of_all_messages_count_and_parts_are_no_marks():
    messages = [{"content": "<video>a"}, {"content": "<video>b"}, {"content": [{"type": "text", "text": "<video>"}]}]
    assert mismatch(messages, {"video": 2}, Columns()) is None


def test_columns_have_the_names_of_the_configuration():
    columns = Columns.of(OmegaConf.create({"video_key": "clips", "prompt_key": "chat"}))
    assert columns == Columns(prompt="chat", video="clips", image="images", audio="audios")
    table = pa.Table.from_pylist([{"chat": [{"content": "<video>"}], "clips": ["a.mp4"]}])
    assert list(mismatches(table, columns)) == [None]


def test_columns_of_every_type():
    table = pa.table({"prompt": [[{"content": "<video>"}]] * 2, "videos": [["a.mp4"], None], "images": pa.nulls(2)})
    assert list(mismatches(table, Columns())) == [None, "1 <video> in prompt, and 0 in videos (data.video_key)"]
    with pytest.raises(ValueError, match="column videos: must hold lists of media, and holds string"):
        list(mismatches(table.set_column(1, "videos", pa.array(["a.mp4"] * 2)), Columns()))


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture
def dataset(tmp_path, processor):
    def dataset(*rows, **data):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        config = {"cache_dir": str(tmp_path / "cache"), "filter_overlong_prompts": False, "shuffle": False, **data}
        limit = config.get("train_max_samples", -1)
        files = [str(tmp_path / "rows.parquet")]
        return CareDataset(files, processor.tokenizer, OmegaConf.create(config), processor, limit)

    return dataset


ROWS = [
    row("<video>one", [VIDEO], [], n=0),
    row("<video><video>two", [VIDEO], [], n=1),  # verl: AssertionError, and the run ends
    row("<video><image>three", [VIDEO], [IMAGE], n=2),
    row("<video>four", n=3),  # verl: "<video>" is text
    row("five", [], [IMAGE], n=4),
]


def test_such_rows_are_left_out_counted_and_named(dataset, caplog):
    with caplog.at_level(logging.WARNING):
        kept = dataset(*ROWS)
    assert [kept[place]["n"] for place in range(len(kept))] == [0, 2]
    assert "3 of 5 rows have not as many media as marks" in caplog.text
    assert "row 1: 2 <video> in prompt, and 1 in videos (data.video_key)" in caplog.text
    assert "row 3: 1 <video> in prompt, and 0 in videos" in caplog.text
    assert "row 4: 0 <image> in prompt, and 1 in images" in caplog.text


def test_of_a_part_of_the_rows_too(dataset, caplog):
    kept = dataset(*ROWS, train_max_samples=3)
    assert [kept[place]["n"] for place in range(len(kept))] == [0, 2]
    assert "1 of 3 rows" in caplog.text


def test_nothing_is_said_of_sound_rows(dataset, caplog):
    assert len(dataset(ROWS[0], ROWS[2])) == 2
    assert "marks" not in caplog.text


def test_the_column_of_clips_under_another_name_ends_the_run(dataset):
    with pytest.raises(ValueError, match=r"1 of 1 rows .*no column clips.*Set data\.video_key"):
        dataset(ROWS[0], video_key="clips")
