import subprocess
import sys

HEAVY = ("apache_beam", "cv2", "dlib", "deepface", "transformers", "lightning", "av")
PROGRAM = f"""
import importlib, pkgutil, sys
import reactionnet_datasets
names = [m.name for m in pkgutil.walk_packages(reactionnet_datasets.__path__, "reactionnet_datasets.")]
for name in names:
    importlib.import_module(name)
print(len(names), *(name for name in {HEAVY!r} if name in sys.modules))
"""


def test_the_slim_package_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    count, *loaded = done.stdout.split()
    assert int(count) >= 5
    assert loaded == []
