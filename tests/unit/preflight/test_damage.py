"""Each kind of damage to the training data is a line that says what to mend."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.preflight import checks
from tests.unit.preflight.test_command import SMALL
from verl_care.doctor.finding import FAIL, NOTE, OK


def video_r1_row(root, kind, **changes):
    """A row of the parquet file."""
    return {
        "data_source": "video_r1/train",
        "prompt": [{"role": "user", "content": f"<video>A {kind} question?"}],
        "videos": [{"video": str(root / "clip.mp4")}],
        "images": [],
        "reward_model": {"style": "rule", "ground_truth": "A"},
        "extra_info": {"id": "1", "problem_type": kind},
        **changes,
    }


def write_rows(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def damaged(data, tmp_path):
    """A copy of the data with another training file: rows, or bytes."""

    def damaged(content):
        (tmp_path / "video_r1").mkdir()
        (tmp_path / "video_r1/eval_mmvu.parquet").symlink_to(data / "video_r1/eval_mmvu.parquet")
        file = tmp_path / "video_r1/Video-R1-260k.parquet"
        file.write_bytes(content) if isinstance(content, bytes) else write_rows(file, content)
        return tmp_path

    return damaged


def rows(data, **changes):
    kind = "multiple choice"
    infos = [{"id": str(number), "problem_type": kind} for number in range(8)]
    return [video_r1_row(data, kind, **{"extra_info": info, **changes}) for info in infos]


DAMAGE = {  # what is in the training file, the check that says so, what it says
    "no parquet": (lambda data: b"not a parquet", "data", "Video-R1-260k.parquet: "),
    "cut off": (
        lambda data: (data / "video_r1/eval_mmvu.parquet").read_bytes()[:-40],
        "data",
        "Video-R1-260k.parquet: ",
    ),
    "no column": (
        lambda data: [{"prompt": "x", "data_source": "y"}] * 8,
        "data",
        "has no column reward_model, extra_info",
    ),
    "unknown type": (
        lambda data: rows(data, extra_info={"id": "1", "problem_type": "riddle"}),
        "data",
        "row 0, extra_info.problem_type: 'riddle', which no rule grades",
    ),
    "no answer": (
        lambda data: rows(data, reward_model={"style": "rule", "ground_truth": ""}),
        "data",
        "row 0, reward_model.ground_truth: empty",
    ),
    "missing clip": (
        lambda data: rows(data, videos=[{"video": "/nowhere/a.mp4"}]),
        "data",
        "1 media files are not there, the first /nowhere/a.mp4",
    ),
    "damaged clip": (
        lambda data: rows(data, videos=[{"video": str(data / "broken.mp4")}]),
        "prompts",
        "not, row ",
    ),
    "a number": (
        lambda data: rows(data, reward_model={"style": "rule", "ground_truth": 3}),
        "data",
        "row 0, reward_model.ground_truth: 3, and grading reads texts alone",
    ),
    "one mark too many": (
        lambda data: [*rows(data), *rows(data, prompt=[{"role": "user", "content": "<video><video>What?"}])],
        "data",
        "row 8: 2 <video> in prompt, and 1 in videos (data.video_key)",
    ),
    "no column of clips": (
        lambda data: [{name: row[name] for name in row if name != "videos"} for row in rows(data)],
        "data",
        "row 0: 1 <video> in prompt, and no column videos (data.video_key)",
    ),
    "too few rows": (
        lambda data: rows(data)[:4],
        "steps",
        "4 training rows: 1 steps an epoch, 1 epoch(s), for 2 steps",
    ),
    "no batch": (lambda data: rows(data)[:3], "steps", "3 training rows make no step of data.train_batch_size=4"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage(run, data, damaged, kind):
    make, subject, message = DAMAGE[kind]
    (data / "broken.mp4").write_bytes(b"\0" * 99)
    status, failed, printed = run("care_video_r1", *SMALL, folder=damaged(make(data)))
    assert status == 1
    assert message in failed[subject].text
    assert failed[subject].mend in printed
    assert "Traceback" not in printed


def test_training_files_are_judged_together(composed_run, tmp_path, data):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file in files:
        write_rows(file, rows(data, data_source=file.stem)[:6])
    overrides = ["trainer.total_epochs=1", f"data.train_files=[{','.join(map(str, files))}]"]

    def steps(*more):
        plan = checks.Preflight(composed_run(*overrides, *more))
        assert [plan.data(file, training=True).status for file in files] == ["ok", "ok"]
        return plan.steps()

    # 12 rows, 4 a step: 3 steps an epoch, where each file by itself has one
    assert steps("trainer.total_training_steps=3").status == "ok"
    found = steps("trainer.total_training_steps=7")
    assert (found.status, found.mend) == (FAIL, "trainer.total_epochs=3")
    assert steps("trainer.total_training_steps=3", "data.train_max_samples=11").status == FAIL  # 11 // 4 = 2
    found = steps("data.train_batch_size=16", "trainer.total_training_steps=null")
    assert (found.status, found.mend) == (FAIL, "more rows, or data.train_batch_size=12")


def named(*ids, source="mine"):
    def rows(data):
        infos = [{"id": id, "problem_type": "multiple choice"} for id in ids]
        return [video_r1_row(data, "", data_source=source, extra_info=info) for info in infos]

    return rows


@pytest.mark.parametrize(
    ("make", "doubt"),
    [
        (named("1", "2"), None),
        (named("1", None, ""), "2 rows have no extra_info.id"),
        (named("1", "2", "1"), "1 ids stand more than once, 1 of mine among them"),
        (
            named(None, "1", "1"),
            "1 rows have no extra_info.id and 1 ids stand more than once, 1 of mine among them",
        ),
        (lambda data: named("1")(data) + named("1", source="other")(data), None),  # unique within each
    ],
)
def test_rows_without_a_name_of_their_own_are_a_note(composed_run, tmp_path, data, make, doubt):
    write_rows(tmp_path / "a.parquet", make(data))
    for training in (True, False):
        found = checks.Preflight(composed_run()).data(tmp_path / "a.parquet", training=training)
        assert found.status == (NOTE if doubt else OK)
        assert (doubt or "") in found.text
        assert ("an evaluation refuses these" in found.text) == (doubt is not None and not training)


def test_names_of_all_validation_files_are_judged_together(composed_run, tmp_path, data):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, ids in zip(files, (("1", "2"), ("2", "3")), strict=True):
        write_rows(file, named(*ids)(data))
    plan = checks.Preflight(composed_run())
    assert plan.data(files[0], training=True).status == OK
    assert [plan.data(file, training=False).status for file in files] == [OK, NOTE]


def test_rows_of_every_shape():
    from recipes.preflight.rows import media_paths
    from verl_care.data.marks import Columns

    row = {"videos": [{"video": "a.mp4"}, {"video": ["f1.png", "f2.png"]}], "images": ["file://b.png"]}
    assert list(media_paths(row, Columns())) == ["a.mp4", "f1.png", "f2.png", "file://b.png"]
    assert list(media_paths({"clips": ["c.mp4"], "videos": ["a.mp4"]}, Columns(video="clips"))) == ["c.mp4"]
    assert list(media_paths({"videos": None, "images": [{"image": None}]}, Columns())) == []


def test_a_file_is_there_as_training_finds_it(tmp_path, monkeypatch):
    from recipes.preflight.rows import _is_there

    (tmp_path / "a.mp4").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert all(map(_is_there, (f"file://{tmp_path}/a.mp4", "~/a.mp4", f"{tmp_path}/a.mp4")))
    assert not any(map(_is_there, ("https://example.org/a.mp4", "~/b.mp4", "~nosuchuser/a.mp4", "a" * 300)))
