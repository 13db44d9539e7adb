"""Proves that the wheel is a package as pip expects it: it installs into a fresh virtual environment without a network,
has the project's version, loads from there, uninstalls without leaving a file, and what its type stub says is there.
"""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import zipfile

from package import ROOT, cli_world, kvtier, main, wheel

SECONDS_MAX = 120
STORE_AND_FETCH = """
import sys, kvtier
assert kvtier.__file__.startswith(sys.prefix), kvtier.__file__
with kvtier.connect(sys.argv[1]) as client:
    model = client.register_model(kvtier.ModelGeometry("m", 2, [kvtier.Plane("kv", 100)]))
    keys = model.prefix_keys([1, 2])
    with client.reserve(model) as reservation:
        reservation.put([(0, 0, bytes(range(100)))])
        reservation.commit_keys(keys)
    with client.lookup(model, keys) as lease:
        memory = bytearray(100)
        lease.get([(0, 0, memory)]).raise_if_failed()
print(memory == bytes(range(100)))
"""


def run(*command):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    # pip asks compilers on the path for their versions, and some write to the home directory then.
    environment["PATH"] = "/usr/bin:/bin"
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=SECONDS_MAX, env=environment)
    assert done.returncode == 0, f"exit status {done.returncode}: {command}\n{done.stdout[-3000:]}"
    return done.stdout


def project_version():
    return re.search(r"project\(kvtier VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


class Wheel(unittest.TestCase):
    def test_installs_into_a_fresh_environment(self):
        with tempfile.TemporaryDirectory(prefix="kvtier-venv-") as directory:
            folder = pathlib.Path(directory)
            run(sys.executable, "-m", "venv", "--system-site-packages", folder / "venv")
            python = folder / "venv" / "bin" / "python"
            pip = (python, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check")
            before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
            run(*pip, "install", "--no-index", "--no-deps", wheel())
            shown = run(*pip, "show", "kvtier")
            self.assertIn(f"Version: {project_version()}\n", shown)
            world = cli_world.World(folder)
            world.start(cli_world.SMALL)
            try:
                self.assertEqual(run(python, "-B", "-c", STORE_AND_FETCH, world.socket), "True\n")
            finally:
                world.stop()
            run(*pip, "uninstall", "--yes", "kvtier")
            after = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
            self.assertEqual({path.name for path in after - before}, {"kvtierd.log", "kvtierd.yaml"})

    def test_files(self):
        with zipfile.ZipFile(wheel()) as archive:
            names = {name for name in archive.namelist() if ".dist-info" not in name}
            self.assertIsNone(archive.testzip())
        folder = ROOT / "client" / "python"
        sources = {str(path.relative_to(folder)) for path in (folder / "kvtier").rglob("*")
                   if path.suffix in (".py", ".pyi", ".typed")}
        extensions = {name for name in names if name.endswith(".so")}
        self.assertEqual(len(extensions), 1, names)
        self.assertEqual(names - extensions, sources)
        self.assertIn("kvtier/py.typed", names)
        self.assertIn("kvtier/report/page.py", names)


class Interface(unittest.TestCase):
    def test_package_has_the_version_of_the_project(self):
        self.assertEqual(kvtier.__version__, project_version())

    def test_stub_is_about_the_module_that_is_there(self):
        """Names of the extension and of its classes, compared both ways."""
        stub = ast.parse((ROOT / "client" / "python" / "kvtier" / "_kvtier.pyi").read_text())
        module = kvtier.client._kvtier

        def public(names):
            return {name for name in names if not name.startswith("_")}

        classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
        functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
        self.assertEqual(public(vars(module)), functions | set(classes))
        for name, node in classes.items():
            stubbed = {item.name: len(item.args.args) for item in node.body if isinstance(item, ast.FunctionDef)}
            self.assertEqual(public(vars(getattr(module, name))), public(stubbed), name)
            for method, arguments in stubbed.items():
                found = re.match(r"\w+\((.*?)\) ->", getattr(module, name).__dict__[method].__doc__ or "")
                if found:  # pybind11 says how many it takes; properties have no such line
                    self.assertEqual(found.group(1).count(":"), arguments, f"{name}.{method}: {found.group(0)}")

    def test_everything_public_is_annotated_and_explained(self):
        for name in kvtier.__all__:
            value = getattr(kvtier, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)) or value.__module__ == "builtins":
                continue
            self.assertTrue(inspect.getdoc(value), f"{name} has no docstring")
            functions = [(name, value)] if inspect.isfunction(value) else [
                (f"{name}.{member}", function) for member, function in vars(value).items()
                if inspect.isfunction(function) and not member.startswith("_") and value.__module__.startswith("kvtier.")]
            for qualified, function in functions:
                self.assertTrue(inspect.getdoc(function), f"{qualified} has no docstring")
                signature = inspect.signature(function)
                self.assertIsNot(signature.return_annotation, inspect.Signature.empty, qualified)
                for parameter in list(signature.parameters.values()):
                    if parameter.name != "self":
                        self.assertIsNot(parameter.annotation, inspect.Parameter.empty, f"{qualified}: {parameter}")


if __name__ == "__main__":
    sys.exit(main("python_wheel_test"))
