"""The command line of kvtier.report; `kvtier report` passes its own on to it."""

import argparse
import os
import signal
import sys
import tempfile

from .results import InvalidResult, read_result

RESULTS_MAX = 64


def _write(path, text):
    """All of it or nothing, under a name of its own first."""
    data = text.encode("utf-8", "replace")  # half of a surrogate pair, which JSON may hold, is no character
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe, /dev/null
        with open(path, "wb") as file:
            file.write(data)
        return
    target = os.path.realpath(path)
    with tempfile.NamedTemporaryFile("wb", dir=os.path.dirname(target), prefix=".kvtier-report-", delete=False) as file:
        try:
            file.write(data)
            file.close()
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(file.name, 0o666 & ~mask)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _one_line(error):
    return "".join(c if c.isprintable() else " " for c in str(error))


def main(arguments=None):
    """Returns the exit status: 0, 1 with a line on stderr, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="kvtier report", description="Writes one HTML page about results.",
                                     allow_abbrev=False)
    parser.add_argument("results", nargs="+", metavar="RESULT.json",
                        help="what kvtier bound, sim or plan printed with --json")
    parser.add_argument("-o", "--output", required=True, metavar="PAGE.html", help="where the page goes; - is stdout")
    options = parser.parse_args(arguments)
    if len(options.results) > RESULTS_MAX:
        parser.error(f"{len(options.results)} results; at most {RESULTS_MAX}")
    try:
        results = [read_result(path) for path in options.results]
        from .page import render  # matplotlib takes longer to load than a wrong file to be found
        _write(options.output, render(results))
    except ImportError as error:
        print(f"kvtier: the plots need matplotlib, which {sys.executable} cannot import ({_one_line(error)}): install it "
              "(Debian: python3-matplotlib), or name another Python with --python", file=sys.stderr)
        return 1
    except InvalidResult as error:
        print(f"kvtier: {_one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # of a result the path is known; of the page it may be that of a file beside it
        name = error.filename if error.filename in options.results else options.output
        print(f"kvtier: {_one_line(name)}: {_one_line(error.strerror or error)}", file=sys.stderr)
        return 1
    return 0


def run():
    """main() for a program of its own: a signal ends it without a trace, and leaves no half-written page behind."""
    def end(number, _):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    return main()
