"""The source tree as the tidy rules see it: kvtier's own files, build output left out."""

import os
import re

SOURCE_FOLDERS = ("bench", "client", "daemon", "kernels", "proto", "sim", "tests", "tiering")
OTHER_FOLDERS = (".ci", "cmake", "docs", "scripts")
_TEXT = (".h", ".cc", ".cu", ".py", ".proto", ".cmake", ".md", ".txt", ".yaml", ".json", "")
_COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


class Tree:
    def __init__(self, root):
        self.root = root
        self._texts = {}
        self._paths = []
        for top in SOURCE_FOLDERS + OTHER_FOLDERS:
            for folder, folders, names in os.walk(os.path.join(root, top)):
                folders[:] = sorted(f for f in folders if f not in ("__pycache__", "build", "corpus"))
                relative = os.path.relpath(folder, root)
                self._paths += [f"{relative}/{name}" for name in sorted(names)]
        self._paths += sorted(name for name in os.listdir(root)
                              if os.path.isfile(os.path.join(root, name)))

    def files(self, suffixes=_TEXT, under=""):
        """Paths relative to the root, forward slashes; "" among the suffixes is a name without one."""
        return [p for p in self._paths if p.startswith(under) and os.path.splitext(p)[1] in suffixes]

    def exists(self, path):
        return os.path.exists(os.path.join(self.root, path))

    def read(self, path):
        if path not in self._texts:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                self._texts[path] = file.read()
        return self._texts[path]


def code_lines(text):
    """[(line number, line)] of C++ without comments; strings stay."""
    def blank(match):
        found = match.group(0)
        return found if found.startswith('"') else "\n" * found.count("\n")

    return list(enumerate(_COMMENT_OR_STRING.sub(blank, text).split("\n"), 1))
