"""Packs the wheel of the Python package. The standard library is all it needs.

CMake calls it with the extension module that it has built (target kvtier_wheel). pip calls build_wheel(), the hook
of PEP 517: it builds the extension with CMake, in build/release of the checkout, and packs the same wheel. There is
no source distribution: the C++ client is built from the whole checkout.
"""

import argparse
import base64
import hashlib
import pathlib
import re
import subprocess
import sys
import sysconfig
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUMMARY = "Client of kvtier, a daemon that owns the KV cache of LLM inference across memory tiers"
PACKED = (".py", ".pyi", ".typed")
TIME = (1980, 1, 1, 0, 0, 0)  # the same files give the same wheel


def wheel_tag():
    """The extension is for this very Python: its version, its ABI, its platform."""
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{interpreter}-{interpreter}-{platform}"


def project_version():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"project\(kvtier VERSION ([\d.]+)", text).group(1)


def metadata(version):
    return (f"Metadata-Version: 2.1\nName: kvtier\nVersion: {version}\nSummary: {SUMMARY}\n"
            "Requires-Python: >=3.9\nProvides-Extra: numpy\nRequires-Dist: numpy; extra == 'numpy'\n"
            "Provides-Extra: report\nRequires-Dist: matplotlib>=3.6; extra == 'report'\n")


def pack(extension, version, output):
    """Writes the wheel; returns its path. Another version's wheel in the same folder is removed."""
    extension, output, tag = pathlib.Path(extension), pathlib.Path(output), wheel_tag()
    files = {str(path.relative_to(HERE)): path.read_bytes() for path in sorted((HERE / "kvtier").rglob("*"))
             if path.suffix in PACKED}
    files[f"kvtier/{extension.name}"] = extension.read_bytes()
    information = f"kvtier-{version}.dist-info"
    files[f"{information}/METADATA"] = metadata(version).encode()
    files[f"{information}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: kvtier\nRoot-Is-Purelib: false\n"
                                     f"Tag: {tag}\n").encode()
    record = f"{information}/RECORD"
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    files[record] = ("".join(lines) + f"{record},,\n").encode()

    output.mkdir(parents=True, exist_ok=True)
    wheel = output / f"kvtier-{version}-{tag}.whl"
    for other in output.glob("kvtier-*.whl"):
        if other != wheel:
            other.unlink()
    partial = wheel.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    partial.replace(wheel)
    return wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """PEP 517."""
    build = ROOT / "build" / "release"
    if not (build / "build.ninja").exists():
        subprocess.run(["cmake", "--preset", "release", f"-DKVTIER_PYTHON_INTERPRETER={sys.executable}"], cwd=ROOT,
                       check=True)
    subprocess.run(["cmake", "--build", str(build), "--target", "kvtier_python"], check=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extension = build / "python" / "extension" / f"_kvtier{suffix}"
    if not extension.exists():
        raise RuntimeError(f"{build} is not configured for this Python ({sys.executable}): there is no {extension}")
    return pack(extension, project_version(), wheel_directory).name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extension", required=True, help="the built module")
    parser.add_argument("--version", required=True)
    parser.add_argument("--output", required=True, help="the wheel's folder")
    args = parser.parse_args()
    print(pack(args.extension, args.version, args.output))


if __name__ == "__main__":
    main()
