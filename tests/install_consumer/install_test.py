"""Proves that an installed kvtier is complete: installs the build into a temporary prefix, then configures,
builds and runs a project that knows nothing but that prefix, with the code that README.md shows, against the
installed daemon.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ["KVTIER_BINARY_DIR"]
SOURCE = os.environ["KVTIER_SOURCE_DIR"]
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import junit  # noqa: E402


def run(*command):
    # A compiler launcher such as ccache would leave files in TMPDIR.
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_COMPILER_LAUNCHER")}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=180, check=False, env=environment)
    assert done.returncode == 0, f"exit status {done.returncode}: {' '.join(command)}\n{done.stdout[-4000:]}"
    return done.stdout


def check_files(prefix):
    for path in ("bin/kvtierd", "bin/kvtier", "include/kvtier/client.h",
                 "share/kvtier/proto/kvtier/v1/types.proto"):
        assert os.path.exists(os.path.join(prefix, path)), f"{path} is not installed"
    for program in ("kvtierd", "kvtier"):
        assert "usage" in run(os.path.join(prefix, "bin", program), "--help").lower()


def check_headers(prefix):
    """Public headers include the standard library, Abseil and each other, and no more."""
    folder = os.path.join(prefix, "include", "kvtier")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for header in re.findall(r'^\s*#\s*include\s*[<"]([^">]+)', file.read(), re.MULTILINE):
                assert "." not in header or header.startswith(("absl/", "kvtier/")), f"{name}: {header}"


def check_no_build_paths(prefix):
    """The package works after the trees that made it are gone."""
    for folder, _, names in os.walk(prefix):
        for name in names:
            if name.endswith(".cmake"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    text = file.read()
                for tree in (BUILD, SOURCE):
                    assert tree + "/" not in text, f"{name} names {tree}"


def check_consumer(prefix, directory):
    build = os.path.join(directory, "build")
    run("cmake", "-S", os.path.join(HERE, "consumer"), "-B", build, "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", build)
    run(os.path.join(build, "engine"), os.path.join(directory, "nobody.sock"), "absent")
    socket = os.path.join(directory, "kvtierd.sock")
    daemon = subprocess.Popen([os.path.join(prefix, "bin", "kvtierd"), "--socket", socket], stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        run(os.path.join(prefix, "bin", "kvtier"), "status", "--socket", socket, "--wait", "60s")
        output = run(os.path.join(build, "engine"), socket)
        assert output == "5 chunks computed, equal\n", output
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0, daemon.returncode
    finally:
        daemon.kill()
        daemon.wait()


def check_protos(prefix, directory):
    """protoc takes the installed protos by themselves, from the folder that the package names."""
    folder = os.path.join(prefix, "share", "kvtier", "proto")
    names = [os.path.relpath(os.path.join(where, name), folder) for where, _, found in os.walk(folder) for name in found]
    assert "kvtier/v1/kv_cache.proto" in names, names
    run("protoc", f"--proto_path={folder}", f"--cpp_out={directory}", *names)
    assert os.path.exists(os.path.join(directory, "kvtier", "v1", "kv_cache.pb.h"))


def main():
    report = junit.Report("install_test")
    with tempfile.TemporaryDirectory(prefix="kvtier-install-") as directory:
        prefix = os.path.join(directory, "prefix")
        if report.run("install", run, "cmake", "--install", BUILD, "--prefix", prefix):
            report.run("files", check_files, prefix)
            report.run("headers", check_headers, prefix)
            report.run("no_build_paths", check_no_build_paths, prefix)
            report.run("protos", check_protos, prefix, directory)
            report.run("consumer", check_consumer, prefix, directory)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
