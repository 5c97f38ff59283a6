"""Pixel values once per prompt: the same ones, from one computation, and never another clip's."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from recipes.quickstart.model import build_processor
from verl_care.data.features import Once, remember_features


def clip(seed, frames=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, 56, 56), dtype=torch.uint8, generator=generator)


def metadata(fps=2.0, frames=4):
    return {"fps": fps, "frames_indices": list(range(frames)), "total_num_frames": frames, "video_backend": "pyav"}


def features(processor, text, videos=None, images=None, fps=2.0):
    given = {"videos": videos, "video_metadata": [metadata(fps) for _ in videos]} if videos else {}
    given |= {"images": images} if images else {}
    text = "<|vision_start|><|video_pad|><|vision_end|>" * len(videos or ()) + text
    text = "<|vision_start|><|image_pad|><|vision_end|>" * len(images or ()) + text
    return processor(text=[text], return_tensors="pt", do_sample_frames=False, **given)


def equal(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)


class Counted:
    """Stands before a media processor and counts its calls."""

    def __init__(self, processor):
        self.processor, self.calls = processor, 0

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, **kwargs):
        self.calls += 1
        return self.processor(**kwargs)


@pytest.fixture
def stock():
    return build_processor()


@pytest.fixture
def remembering():
    processor = build_processor()
    for part in ("image_processor", "video_processor"):
        setattr(processor, part, Counted(getattr(processor, part)))
    return remember_features(processor)


def calls(processor):
    return processor.image_processor.calls, processor.video_processor.calls


def test_the_responses_of_a_group_share_one_computation_and_get_what_stock_gives(stock, remembering):
    video, image = clip(0), Image.new("RGB", (56, 84), "teal")
    for response in ("A", "B longer", ""):
        mine = features(remembering, response, [video], [image])
        assert equal(mine, features(stock, response, [video], [image]))
    assert calls(remembering) == (1, 1)


def test_two_clips_of_one_prompt(stock, remembering):
    videos = [clip(0), clip(1, frames=6)]
    for _ in range(2):
        assert equal(features(remembering, "A", videos), features(stock, "A", videos))
    assert calls(remembering) == (0, 1)
    assert equal(features(remembering, "A", videos[::-1]), features(stock, "A", videos[::-1]))
    assert calls(remembering) == (0, 2)


def test_another_clip_of_the_same_shape_is_another(stock, remembering):
    for seed in range(3):
        video = clip(seed)
        assert equal(features(remembering, "A", [video]), features(stock, "A", [video]))
        del video
        gc.collect()  # its memory is free for the next, but not its place in the memory of results
    assert calls(remembering) == (0, 3)


def test_other_sampling_times_are_another_computation(stock, remembering):
    video = clip(0)
    for fps in (2.0, 0.5):
        assert equal(features(remembering, "A", [video], fps=fps), features(stock, "A", [video], fps=fps))
    assert calls(remembering) == (0, 2)


def test_what_a_caller_does_to_its_features_stays_with_it(remembering):
    video, processor = clip(0), remembering.video_processor
    given = {"videos": [video], "video_metadata": [metadata()], "do_sample_frames": False, "return_tensors": "pt"}
    first = processor(**given)
    first.pop("video_grid_thw")
    first["pixel_values_videos"] = None
    again = processor(**given)
    assert again["pixel_values_videos"] is not None
    assert "video_grid_thw" in again


def test_simultaneous_askers_wait_for_one_computation(remembering):
    video = clip(0)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: features(remembering, f"answer {number}", [video]), range(8)))
    assert calls(remembering) == (0, 1)
    assert len({one["pixel_values_videos"].data_ptr() for one in found}) == 1  # G responses, one copy in memory


def test_a_text_only_prompt_asks_for_nothing(remembering):
    features(remembering, "A")
    assert calls(remembering) == (0, 0)


def test_once_is_enough(stock):
    assert remember_features(remember_features(stock)) is stock
    assert not isinstance(stock.video_processor.__wrapped__, Once)
    assert stock.video_processor.merge_size == 2  # its settings are still there to be read
    assert remember_features(stock.tokenizer) is stock.tokenizer


def test_a_copy_is_an_ordinary_processor(stock):
    kind = type(stock.video_processor)
    remember_features(stock)
    for copied in (copy.deepcopy(stock), pickle.loads(pickle.dumps(stock))):
        assert type(copied.video_processor) is kind
    assert "video_processor" in repr(stock)


def test_clips_and_images_share_one_bound(monkeypatch):
    # of 4 frames of 56 x 56: 4 * 3 * 56 * 56 = 37,632 bytes, and four times that of pixel values in float32
    one = 5 * 37_632
    monkeypatch.setattr("verl_care.data.features.CAPACITY", 2 * one + 100)  # and grids of a few bytes
    processor = build_processor()
    for part in ("image_processor", "video_processor"):
        setattr(processor, part, Counted(getattr(processor, part)))
    remember_features(processor)
    clips = [clip(seed) for seed in range(3)]
    for video in [*clips[:2], *clips[:2]]:
        features(processor, "A", [video])
    assert calls(processor) == (0, 2)
    features(processor, "A", [clips[2]])  # the first is forgotten
    features(processor, "A", [clips[0]])
    assert calls(processor) == (0, 4)
    assert processor.video_processor._self_results is processor.image_processor._self_results
    assert processor.video_processor._self_results.bytes <= 2 * one + 100
