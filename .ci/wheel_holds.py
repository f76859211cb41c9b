"""The wheel holds edgeae/ alone, all of it, and nothing that git does not track."""

import subprocess
import sys
import zipfile

wheel, root = sys.argv[1:]
held = set(zipfile.ZipFile(wheel).namelist())
strange = sorted(
    name
    for name in held
    if not name.startswith("edgeae/") and not name.split("/")[0].endswith(".dist-info")
)
listed = subprocess.run(
    ["git", "-C", root, "ls-files", "-z", "edgeae"], capture_output=True, text=True, check=True
)
tracked = set(filter(None, listed.stdout.split("\0")))
missing = sorted(tracked - held)
untracked = sorted(name for name in held if name.startswith("edgeae/") and name not in tracked)
if strange or missing or untracked:
    sys.exit(f"{wheel}: not ours: {strange}; missing: {missing}; not in git: {untracked}")
print(f"{len(held)} files")
