"""torchcodec decodes as the others do, wherever the tests run: with the FFmpeg libraries that PyAV's wheel brings."""

import os
import re
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

from verl_care.data import decoders

TESTS = ("test_same_frames.py", "test_video_decoding.py")


def link_libraries(folder: Path) -> None:
    """PyAV's wheel names them `libavcodec-<digest>.so.62.28.102`; torchcodec looks for `libavcodec.so.62`."""
    for file in files("av") or []:
        if ".so." not in file.name:
            continue
        path = Path(str(file.locate()))
        (folder / path.name).symlink_to(path)
        if plain := re.fullmatch(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+(\.so\.[0-9]+)[.0-9]*", path.name):
            (folder / "".join(plain.groups())).symlink_to(path)


@pytest.mark.skipif(not decoders.why_not("torchcodec"), reason="torchcodec loads here: its tests run as they are")
@pytest.mark.skipif(decoders.why_not("torchcodec") == "it is not installed", reason="torchcodec is not installed")
@pytest.mark.timeout(300)
def test_with_pyavs_libraries(tmp_path):
    link_libraries(tmp_path)
    tests = [str(Path(__file__).parent / name) for name in TESTS]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "torchcodec", *tests],
        env={**os.environ, "LD_LIBRARY_PATH": f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed, found.stdout[-3000:]
    assert int(passed.group(1)) >= 30
    assert "skipped" not in found.stdout
