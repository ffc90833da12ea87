"""Tests of the files for clusters that need no cluster: their form, versions, and the search in them.

The entry point of the job on Kubernetes is run in tests/tune_app/distributed/test_ray_jobs.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
from ruamel.yaml import YAML

from tune_app.config import load_config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "cluster"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """Return the documents of the job on Kubernetes by their kind."""
    documents = YAML(typ="safe").load_all((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def pods(job: dict[str, Any]) -> dict[str, Any]:
    spec = job["RayJob"]["spec"]
    cluster = spec["rayClusterSpec"]
    workers = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return {
        "submitter": spec["submitterPodTemplate"]["spec"],
        "head": cluster["headGroupSpec"]["template"]["spec"],
        **workers,
    }


def ray_version() -> str:
    found = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_launchers_file_is_one_for_ray() -> None:
    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text(encoding="utf-8"))
    launched = YAML(typ="safe").load((FOLDER / "autoscaler.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(launched, schema)
    assert launched["head_node_type"] in launched["available_node_types"]
    commands = launched["head_start_ray_commands"] + launched["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in commands if "ray start" in command)


def test_every_node_runs_the_version_of_ray_that_headroom_is_tested_with(job: dict[str, Any]) -> None:
    assert job["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == ray_version()
    assert f"FROM rayproject/ray:{ray_version()}-" in (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert len({container["image"] for pod in pods(job).values() for container in pod["containers"]}) == 1


def test_every_pod_has_the_token_and_what_it_mounts(job: dict[str, Any]) -> None:
    for name, pod in pods(job).items():
        (container,) = pod["containers"]
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= {variable["name"] for variable in container["env"]}, name
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}, name
    claims = job["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert claims[0]["persistentVolumeClaim"]["claimName"] == job["PersistentVolumeClaim"]["metadata"]["name"]


def test_the_jobs_search_lies_where_every_node_may_write(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(job["ConfigMap"]["data"]["search.yaml"], encoding="utf-8")
    config = load_config(file)
    for name in ("head", "gpu"):
        mounts = {mount["name"]: mount["mountPath"] for mount in pods(job)[name]["containers"][0]["volumeMounts"]}
        assert config.study.dir.startswith(mounts["studies"])
        assert config.data.path.startswith(mounts["studies"])
        assert f"{mounts['search']}/search.yaml" in job["RayJob"]["spec"]["entrypoint"]
