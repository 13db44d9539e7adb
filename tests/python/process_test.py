"""Proves that no way for a Python process to end, fork or drop objects makes a client crash or hang it: each case is a
process of its own, which must end by itself, with the exit status asked for.
"""

import re
import sys

from package import DaemonCase, main, run_script

SETUP = """
import gc, os, sys, threading
from package import *
client = kvtier.connect(sys.argv[1], unavailable_after=2.0)
model = client.register_model(GEOMETRY)
keys = model.prefix_keys(range(12))
store(client, model, keys)
"""


class Process(DaemonCase):
    def run_script(self, script, expect=0):
        return run_script(SETUP + script, self.world.socket, expect=expect)


class Exit(Process):
    def test_with_everything_alive(self):
        self.run_script("""
lease, reservation, events = client.lookup(model, keys), client.reserve(model), client.watch()
ticket = lease.submit_get([(0, 0, bytearray(5000))])
for chunk in range(50):
    client.submit_lookup(model, keys)
held_by_a_cycle = [client, lease]
held_by_a_cycle.append(held_by_a_cycle)
sys.held_for_ever = held_by_a_cycle
""")

    def test_with_an_error(self):
        output = self.run_script("with client.lookup(model, keys): raise SystemExit(3)", expect=3)
        self.assertEqual(output, "")
        output = self.run_script("with client, client.lookup(model, keys): raise KeyError('mine')", expect=1)
        self.assertIn("KeyError: 'mine'", output)

    def test_with_daemon_threads_in_calls(self):
        """Python kills such threads when they want the GIL after the end, so they must not be inside the client then."""
        for _ in range(5):
            self.run_script("""
begun = threading.Barrier(6)
def work(call):
    begun.wait()
    while True:
        try:
            call()
        except (kvtier.Error, StopIteration):
            pass
events = client.watch()
for call in (lambda: client.lookup(model, keys).release(), lambda: client.submit_lookup(model, keys).wait(),
             lambda: fetch(client.lookup(model, keys), keys), lambda: client.wait_attached(1), events.__next__):
    threading.Thread(target=work, args=(call,), daemon=True).start()
begun.wait()
""")

    def test_with_a_daemon_that_does_not_answer(self):
        """A thread is in a call that waits for it; the end of the process cuts that short."""
        self.pause()
        script = """
client = kvtier.connect(sys.argv[1], lazy=True, unavailable_after=50, call_timeout=50)
model = None
threading.Thread(target=client.wait_attached, args=(50,), daemon=True).start()
"""
        run_script("import sys, threading, kvtier\n" + script, self.world.socket)

    def test_late_calls(self):
        """What is called when the package has ended its work gets an error, nothing worse."""
        output = self.run_script("""
import atexit
atexit._run_exitfuncs()
for call in (lambda: client.lookup(model, keys), lambda: kvtier.connect(sys.argv[1]), client.poll):
    try:
        call()
    except kvtier.Error as error:
        print(type(error).__name__)
client.close()
class Late:
    def __del__(self):
        client.lookup(model, keys)
late_one = Late()
""")
        self.assertEqual(output.split()[:3], ["CancelledError"] * 3)

    def test_interrupted_watch(self):
        """Ctrl-C reaches a thread that waits for events."""
        self.run_script("""
import signal
def interrupt():
    waits.wait()
    os.kill(os.getpid(), signal.SIGINT)
waits, events = threading.Event(), client.watch()
threading.Thread(target=interrupt).start()
try:
    waits.set()
    for event in events:
        pass
except KeyboardInterrupt:
    sys.exit(7)
""", expect=7)


class Fork(Process):
    CHILD = """
sys.stdout.flush()
child = os.fork()
if child == 0:
    %s
    sys.exit(5)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
with client.lookup(model, keys) as lease:
    fetch(lease, keys)
"""

    def child(self, *lines):
        return self.run_script(self.CHILD % "\n    ".join(lines)).split()

    def test_child_ends(self):
        self.assertEqual(self.child("pass"), ["5"])
        self.assertEqual(self.child("del client, model", "gc.collect()"), ["5"])

    def test_child_ends_with_everything_alive(self):
        output = self.run_script("lease, events = client.lookup(model, keys), client.watch()\n"
                                 "client.submit_lookup(model, keys)\n" + self.CHILD % "pass")
        self.assertEqual(output.split(), ["5"])

    def test_calls_in_the_child_are_refused(self):
        lines = self.child(
            "for call in (lambda: client.lookup(model, keys), lambda: model.prefix_keys([1]), lambda: client.attached,",
            "             lambda: kvtier.connect(sys.argv[1]), client.poll, client.fileno, client.watch):",
            "    try:",
            "        call()",
            "    except kvtier.FailedPreconditionError as error:",
            "        print('forked' in str(error))",
            "client.close()")
        self.assertEqual(lines, ["True"] * 7 + ["5"])

    def test_lease_of_the_parent_is_not_the_childs_to_release(self):
        output = self.run_script("held = client.lookup(model, keys)\n"
                                 + self.CHILD % "held.__exit__(None); del held; gc.collect()"
                                 + "held.renew()\nheld.release()\n")
        self.assertEqual(output.split(), ["5"])

    def test_child_of_a_process_without_a_client_connects(self):
        output = run_script("import sys\nfrom package import *\n" + """
import os
child = os.fork()
client = kvtier.connect(sys.argv[1])
model = client.register_model(GEOMETRY)
client.lookup(model, model.prefix_keys([1])).release()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""", self.world.socket)
        self.assertEqual(output.split(), ["0"])

    def test_spawned_processes_connect(self):
        """multiprocessing's "spawn" starts fresh interpreters; `matched` is a function of package.py, for that."""
        output = self.run_script("""
import multiprocessing, package
with multiprocessing.get_context("spawn").Pool(2) as pool:
    print(pool.map(package.matched, [(sys.argv[1], list(range(12)))] * 3))
""")
        self.assertEqual(output.strip(), "[3, 3, 3]")


class Drop(Process):
    def test_every_order(self):
        """All orders in which client, model, lease, reservation, ticket and events can go."""
        output = self.run_script("""
import itertools
names = ("client", "model", "lease", "reservation", "ticket", "events")
for order in itertools.permutations(range(6)):
    if order[0] > 3 and order[1] > order[2]:
        continue  # half of them are enough, and quicker
    if order[5] != 0 and order[4] != 0 and order[3] != 0 and order[2] != 0 and order != (0, 1, 2, 3, 4, 5):
        continue  # without the client no operation is in flight: one order of those
    client = kvtier.connect(sys.argv[1])
    model = client.register_model(GEOMETRY)
    lease = client.lookup(model, keys)
    objects = [client, model, lease, client.reserve(model), lease.submit_get([(0, 1, bytearray(12288))]),
               client.watch()]
    del client, model, lease
    for index in order:
        objects[index] = None
    gc.collect()
print(len(gc.garbage), threading.active_count())
""")
        self.assertEqual(output.split()[-2:], ["0", "1"])

    def test_nothing_stays(self):
        """Clients that came and went leave neither threads nor descriptors."""
        output = self.run_script("""
def facts():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
def cycle():
    one = kvtier.connect(sys.argv[1])
    lease = one.lookup(one.register_model(GEOMETRY), keys)
    events, ticket = one.watch(), one.submit_lookup(model, [])
    one.itself = one
    lease.handle = 0
def count(rounds):
    for _ in range(rounds):
        cycle()
        gc.collect()
    return facts()
first = count(10)
second = count(30)
print(first, second)
""")
        descriptors, threads, descriptors_later, threads_later = map(int, re.findall(r"\d+", output)[-4:])
        self.assertLess(descriptors_later, descriptors + 20)
        self.assertLess(threads_later, threads + 20)


if __name__ == "__main__":
    sys.exit(main("python_process_test"))
