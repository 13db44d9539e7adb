"""Proves that Python workers survive their daemon: killed or stopped at any time, every call ends in time with
UnavailableError, what cannot be fetched is computed, and with a new daemon the same client goes on.
"""

import signal
import sys
import threading
import time

from package import (CHUNK_TOKENS, PLANE_BYTES, UNAVAILABLE_AFTER, DaemonCase, cli_world, content, kvtier, main,
                     store)

# What a busy machine may add to a call's own limit.
SLACK = 10.0


class LostDaemon(DaemonCase):
    def start_again(self):
        self.world.start(cli_world.SMALL)
        self.client.wait_attached(30)

    def unavailable_in_time(self, call, seconds=UNAVAILABLE_AFTER):
        began = time.monotonic()
        with self.assertRaises(kvtier.UnavailableError):
            call()
        self.assertLess(time.monotonic() - began, seconds + SLACK)

    def test_killed_daemon_is_unavailable_to_every_call(self):
        keys = self.keys(2)
        store(self.client, self.model, keys)
        lease = self.client.lookup(self.model, keys)
        reservation = self.client.reserve(self.model)
        self.world.stop(signal.SIGKILL)
        memory = bytearray(PLANE_BYTES[0])
        for call in (lambda: self.client.lookup(self.model, keys), lambda: self.client.reserve(self.model),
                     lambda: lease.get([(0, 0, memory)]), lambda: reservation.put([(0, 0, memory)]), lease.renew,
                     lambda: self.client.forget(self.model, keys), lambda: self.client.prefetch(self.model, keys),
                     lambda: next(self.client.watch()), lambda: self.client.submit_lookup(self.model, keys).wait()):
            self.unavailable_in_time(call)
        self.assertFalse(self.client.attached)
        self.assertEqual((self.client.daemon_epoch, self.client.tenant), (0, ""))
        memory.append(1)  # not held any more
        self.start_again()
        with self.assertRaises(kvtier.NotFoundError):
            lease.get([(0, 0, memory)])
        with self.assertRaises(kvtier.NotFoundError):
            reservation.put([(0, 0, content(keys[0], 0))])
        lease.release()
        reservation.abort()
        keys = self.keys(2)  # the new daemon has another salt
        store(self.client, self.model, keys)
        self.assertEqual(self.client.lookup(self.model, keys, lease=False).chunks, 2)

    def test_blocks_end_quietly_without_a_daemon(self):
        keys = self.keys(1)
        store(self.client, self.model, keys)
        with self.client.lookup(self.model, keys), self.client.reserve(self.model):
            self.world.stop(signal.SIGKILL)
        with self.assertRaises(ZeroDivisionError):
            with kvtier.connect(self.world.socket, lazy=True):
                raise ZeroDivisionError

    def test_stopped_daemon(self):
        """It holds its sockets and says nothing; when it goes on, so does the client."""
        client = self.connect(unavailable_after=3.0)
        model = client.register_model(self.model.geometry)
        self.pause()
        self.unavailable_in_time(lambda: client.lookup(model, []), 3.0)
        self.go_on()

        def answers():
            try:
                return client.lookup(model, [], lease=False) is not None
            except kvtier.UnavailableError:
                return False

        cli_world.until(answers, "the client uses the daemon again")

    def test_workers_recompute(self):
        """Threads generate the same prompts again and again; the daemon is killed and started below them. Whatever
        happens, each has the right KV at the end of each prompt, and some of it came from a daemon.
        """
        stop, errors, reused, computed = threading.Event(), [], [], []

        def kv_of(tokens):
            """What the engine would compute: it follows from the tokens alone."""
            return bytes(tokens) * (PLANE_BYTES[0] // CHUNK_TOKENS)

        def prompt(tokens):
            chunks = [tokens[at:at + CHUNK_TOKENS] for at in range(0, len(tokens), CHUNK_TOKENS)]
            kv, known = [bytearray(PLANE_BYTES[0]) for _ in chunks], 0
            try:
                keys = self.model.prefix_keys(tokens)
                with self.client.lookup(self.model, keys) as lease:
                    result = lease.get([(chunk, 0, kv[chunk]) for chunk in range(lease.chunks)])
                    known = next((at for at, block in enumerate(result.blocks) if block.error), lease.chunks)
            except kvtier.Error:
                pass
            for number in range(known, len(chunks)):
                kv[number][:] = kv_of(chunks[number])
            if known < len(chunks):
                try:
                    with self.client.reserve(self.model, parent=keys[known - 1] if known else None,
                                             chunks=len(chunks) - known) as reservation:
                        reservation.put([(at, plane, one if plane == 0 else bytes(PLANE_BYTES[1]))
                                         for at, one in enumerate(kv[known:]) for plane in (0, 1)])
                        reservation.commit_keys(keys[known:])
                except kvtier.Error:
                    pass
            assert kv == [kv_of(chunk) for chunk in chunks], "wrong KV"
            (reused if known else computed).append(known)

        def work(seed):
            try:
                while not stop.is_set():
                    prompt([seed] * 8 + [seed + 1] * 8)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 50, 100)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                count = len(reused)
                cli_world.until(lambda: len(reused) > count + 5 or errors, "chunks reused")
                self.world.stop(signal.SIGKILL)
                count = len(computed)
                cli_world.until(lambda: len(computed) > count + 5 or errors, "chunks computed")
                self.start_again()
            count = len(reused)
            cli_world.until(lambda: len(reused) > count + 5 or errors, "chunks reused after all")
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        if errors:
            raise errors[0]


class LateDaemon(DaemonCase):
    def test_lazy_client_attaches_when_a_daemon_appears(self):
        self.world.stop()
        client = kvtier.connect(self.world.socket, lazy=True)
        self.addCleanup(client.close)
        with self.assertRaises(kvtier.UnavailableError):
            client.register_model(self.model.geometry)
        with self.assertRaises(kvtier.DeadlineExceededError):
            client.wait_attached(0.01)
        self.world.start(cli_world.SMALL)
        client.wait_attached(30)
        client.register_model(self.model.geometry)


if __name__ == "__main__":
    sys.exit(main("python_lost_daemon_test"))
