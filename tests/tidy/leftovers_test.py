"""Proves that scripts/test finds what its tests leave behind (processes, files, shared memory, files in HOME and in
the source tree), each once, and counts nothing that another program made meanwhile. Each case runs in a process of its
own: the watch takes orphans over.
"""

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import junit  # noqa: E402

START = """
import ctypes, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import leftovers
source, libc = os.environ["TMPDIR"] + "/source", ctypes.CDLL(None, use_errno=True)

def touch(*path):
    open(os.path.join(*path), "w").close()

def shell(script):  # as a test does it: with the environment, in a process that ends
    subprocess.run(["bash", "-c", script], check=True, env={**os.environ, **watch.environment()})

watch = leftovers.Watch(source)
"""
END = """
assert watch.files() == [], "found twice"
watch.close()
assert not os.path.exists(watch.directory)
"""

CASES = {
    # An orphan in a session of its own, as a daemon that a crashed test has left.
    "a_process": """
shell("setsid tail -f /dev/null & disown")
found = watch.processes(grace_seconds=0.2)
assert len(found) == 1 and "tail -f /dev/null" in found[0], found
assert leftovers.descendants() == {} and watch.processes() == []
""",
    "files_in_each_directory": """
shell("touch $TMPDIR/a; mkdir $HOME/.b; touch $HOME/.b/c; python3 -c 'import socket, sys;"
      " socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $XDG_RUNTIME_DIR/d")
found = [os.path.relpath(path, watch.directory) for path in watch.files()]
assert found == ["a", "home/.b", "run/d"], found
assert sorted(os.listdir(watch.directory)) == ["caches", "home", "run"]
""",
    "but_not_what_libraries_cache": """
shell("touch $MPLCONFIGDIR/fonts.json; mkdir $XDG_CACHE_HOME/fontconfig")
assert watch.files() == [], "a cache is not left behind"
assert len(os.listdir(os.path.join(watch.directory, "caches"))) == 2
""",
    "a_file_in_the_source_tree": """
touch(source, "folder", "new.txt")
assert watch.files() == ["folder/new.txt in the source tree"]
""",
    "a_file_in_a_repository": """
subprocess.run(["git", "init", "-q", source], check=True)
touch(source, ".gitignore"), touch(source, "there_before")
open(os.path.join(source, ".gitignore"), "w").write("ignored")
watch.files()
touch(source, "ignored"), touch(source, "folder", "new.txt")
assert watch.files() == ["folder/new.txt in the source tree"]
""",
    "nothing_in_the_build_tree": """
touch(source, "build", "new.txt")
""",
    "posix_shared_memory": """
name = f"/dev/shm/anybody.{os.getpid()}"
shell(f"touch {name}")
found = watch.files()
os.unlink(name)
assert found == [name], found
""",
    "shared_memory_that_another_program_uses": """
name = f"/dev/shm/kvtier.{os.getpid()}"
touch(name)
leftovers.descendants = lambda: {}  # as if it had another parent
other = subprocess.Popen(["tail", "-f", name], stdout=subprocess.DEVNULL)
while not leftovers._used_by_others(name):
    assert other.poll() is None
found = watch.files()
os.unlink(name)
other.kill(), other.wait()
assert found == [], found
""",
    "system_v_shared_memory": """
make = "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))"
made = subprocess.run([sys.executable, "-c", make], capture_output=True, text=True, check=True)
found = watch.files()
assert libc.shmctl(int(made.stdout), 0, None) == 0
assert found == [f"System V shared memory {made.stdout.strip()}"], found
""",
    "system_v_shared_memory_of_a_living_program": """
own = libc.shmget(0, 4096, 0o1600)
found = watch.files()
assert libc.shmctl(own, 0, None) == 0
assert found == [], found
""",
    "nothing_of_another_run": """
for name in ("kvtier-demo-x", "kvtier-bench-x", "kvtier-test-x", "kvtier.sock"):
    touch(os.environ["TMPDIR"], name)
assert os.path.dirname(watch.directory) == os.environ["TMPDIR"]
""",
}


def check(directory, script):
    for folder in ("folder", "build"):
        os.makedirs(os.path.join(directory, "source", folder))
    done = subprocess.run([sys.executable, "-c", START + script + END, os.path.join(ROOT, "scripts")],
                          capture_output=True, text=True, timeout=30, check=False,
                          env={**os.environ, "TMPDIR": directory, "GIT_CEILING_DIRECTORIES": directory})
    assert done.returncode == 0, done.stdout + done.stderr


def main():
    report = junit.Report("leftovers_test")
    for name, script in CASES.items():
        with tempfile.TemporaryDirectory(prefix="kvtier-left-") as directory:
            report.run(name, check, directory, script)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
