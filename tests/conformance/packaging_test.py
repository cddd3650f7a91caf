"""The wheel holds the library, its data and the drivers, and works away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conformance import source_tree

PROGRAM = """
import sys
from tf_tickets.data.registry import load_images
data = load_images("mnist", "embedded")
print(len(data.train), len(data.validation), len(data.test))
for name, module in sys.modules.items():
    if name.split(".")[0] in ("tf_tickets", "experiments", "tests"):
        print(module.__file__)
"""


def checkout_files():
    """Paths of what a commit of the checkout as it is now would hold."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(
            command, cwd=source_tree.ROOT, capture_output=True, text=True, check=True, timeout=60
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"which files belong to the checkout, only git knows: {error}")
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [name for name in names if (source_tree.ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by pip's own call, from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in checkout_files():
        (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source_tree.ROOT / name, folder / "checkout" / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    built = subprocess.run(
        [sys.executable, "-c", build, folder],
        cwd=folder / "checkout",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_all_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    folders = ("tf_tickets/", "experiments/")
    files = {name for name in checkout_files() if name.startswith(folders)}
    packages = {name for name in files if not name.endswith("/BUILD")}
    assert names - metadata == packages
    assert {
        "tf_tickets/data/embedded/mnist.npz",
        "tf_tickets/data/embedded/fashion_mnist.npz",
        "tf_tickets/data/embedded/NOTICE.md",
        "experiments/sparse_robust_networks/reference.csv",
    } <= packages
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_the_wheel_works_away_from_the_checkout(wheel, tmp_path):
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    sizes, *modules = ran.stdout.splitlines()
    assert sizes == "8333 1667 2000"
    assert modules and all(module.startswith(str(installed)) for module in modules)
