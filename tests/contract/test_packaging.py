"""What an installation must bring, seen from outside the checkout, and what loading the plug-in must not cost.

A process that imports verl takes ten seconds or more, so each question is put to one that others share.
"""

import ast
import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
# What `import verl` alone must not load: each takes seconds, and most processes never train.
HEAVY = ("verl.trainer.ppo.v1", "verl.trainer.ppo.core_algos", "verl_care.trainer", "vllm")


def modules_after(statement: str, folder: Path, **environment: str) -> set[str]:
    """The names in `sys.modules` of a new process that ran `statement` in `folder`."""
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_verl_finds_the_plugin():
    (entry,) = [entry for entry in metadata.entry_points(group="verl.plugins") if entry.name == "care"]
    assert entry.value == "verl_care.plugin"


def test_importing_the_package_is_light(tmp_path):
    loaded = modules_after("import verl_care", tmp_path)
    assert "verl_care" in loaded
    assert not loaded & {"verl", "torch", "ray", "numpy", "verl_care.plugin"}


def test_the_algorithm_knows_nothing_of_what_it_runs_in(tmp_path):
    modules = sorted(path.stem for path in (ROOT / "verl_care/algorithm").glob("[!_]*.py"))
    assert "consistency" in modules
    loaded = modules_after(f"from verl_care.algorithm import {', '.join(modules)}", tmp_path)
    assert not loaded & {"verl", "ray", "transformers", "omegaconf", "verl_care.settings"}


@pytest.fixture(scope="module")
def on_a_gpu(tmp_path_factory):
    return modules_after("import verl", tmp_path_factory.mktemp("elsewhere"), VERL_PLATFORM="nvidia")


@pytest.fixture(scope="module")
def on_a_cpu(tmp_path_factory):
    return modules_after("import verl", tmp_path_factory.mktemp("elsewhere"), VERL_PLATFORM="cpu")


def test_importing_verl_loads_the_plugin(on_a_gpu, on_a_cpu):
    assert "verl_care.plugin" in on_a_gpu
    assert "verl_care.plugin" in on_a_cpu


def test_importing_verl_loads_nothing_heavy(on_a_gpu, on_a_cpu):
    assert not on_a_gpu & set(HEAVY)
    assert not on_a_cpu & set(HEAVY)


def test_importing_verl_loads_the_cpu_platform_where_it_is_used_only(on_a_gpu, on_a_cpu):
    assert "verl_care.platforms.cpu" not in on_a_gpu
    assert "verl_care.platforms.cpu" in on_a_cpu


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What verl's entry point would run, asked for away from the checkout; it is built on care_base."""
    run = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "care_quickstart", "--cfg", "job"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_hydra_finds_our_configs_from_anywhere(job):
    from omegaconf import OmegaConf

    # libraries may print before it
    config = OmegaConf.create(job[job.index("actor_rollout_ref:") :])
    assert config.trainer.v1.trainer_mode == "care"
    assert config.care.bonus == "hard"


def test_the_search_path_plugin_imports_hydra_only():
    # Every Hydra program of the environment imports it, and breaks if it does.
    source = ROOT / "hydra_plugins/verl_care_searchpath/__init__.py"
    nodes = list(ast.walk(ast.parse(source.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} == {"hydra"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in our wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (file,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_wheel_holds_every_config(wheel):
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "verl_care/config").rglob("*.yaml")}
    assert "verl_care/config/care_base.yaml" in configs
    assert configs <= wheel


def test_wheel_holds_the_published_numbers(wheel):
    assert "verl_care/evaluation/published.json" in wheel


def test_wheel_adds_to_hydras_namespace_package_and_does_not_own_it(wheel):
    assert "hydra_plugins/verl_care_searchpath/__init__.py" in wheel
    assert "hydra_plugins/__init__.py" not in wheel


def test_wheel_holds_nothing_that_is_no_library(wheel):
    folders = {name.partition("/")[0] for name in wheel if ".dist-info/" not in name}
    assert folders == {"verl_care", "hydra_plugins"}


def test_the_pinned_environment_holds_all_that_pyproject_asks_for():
    """`make lock` writes requirements/cpu.txt; this notices when it was forgotten."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements/cpu.txt").read_text().splitlines()]
    pinned = [Requirement(line) for line in lines if line]
    # "==1.2" without its "=="
    here = {pin.name: str(pin.specifier)[2:] for pin in pinned if not pin.marker or pin.marker.evaluate()}
    for wanted in map(Requirement, [*project["dependencies"], *extras["cpu"], *extras["dev"]]):
        if wanted.marker is None or wanted.marker.evaluate():
            assert wanted.name in here, f"{wanted}: not in requirements/cpu.txt. Run `make lock`."
            version = here[wanted.name]
            assert wanted.specifier.contains(version), f"{wanted}: pinned to {version}. Run `make lock`."
