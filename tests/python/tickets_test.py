"""Proves that Python's tickets end once, with what the blocking calls return, by wait or by poll; that the client's
descriptor tells when; and that threads work beside each other, since nobody waits with the GIL held.
"""

import asyncio
import select
import sys
import threading
import time

from package import GEOMETRY, PLANE_BYTES, DaemonCase, content, fetch, kvtier, main, store


def blocks_of(keys):
    return [(chunk, plane, content(key, plane)) for chunk, key in enumerate(keys) for plane in (0, 1)]


class Tickets(DaemonCase):
    def poll(self, count):
        found = []
        while len(found) < count:
            self.assertTrue(select.select([self.client], [], [], 30)[0], "no completion within 30 s")
            found += self.client.poll()
        return found

    def test_every_operation(self):
        keys = self.keys(3)
        reservation = self.client.submit_reserve(self.model, chunks=3).wait(30)
        with reservation:
            self.assertIsInstance(reservation, kvtier.Reservation)
            self.assertIsNone(reservation.submit_put(blocks_of(keys)).wait(30))
            chunks = [(number, key, self.model.chunk_tokens) for number, key in enumerate(keys)]
            self.assertEqual(reservation.submit_commit(chunks).wait(30), [kvtier.CommitResult.COMMITTED] * 3)
        with self.client.submit_lookup(self.model, keys, ttl=9).wait(30) as lease:
            self.assertEqual((lease.chunks, lease.ttl), (3, 9))
            memory = bytearray(PLANE_BYTES[1])
            result = lease.submit_get([(2, 1, memory)]).wait(30)
            self.assertTrue(result.raise_if_failed().all_ok)
            self.assertEqual(memory, content(keys[2], 1))

    def test_poll_takes_each_completion_once(self):
        keys = self.keys(1)
        tickets = [self.client.submit_lookup(self.model, keys, lease=False) for _ in range(20)]
        completions = self.poll(20)
        self.assertEqual({completion.ticket for completion in completions}, set(tickets))
        self.assertEqual([completion.result().chunks for completion in completions], [0] * 20)
        self.assertEqual(select.select([self.client], [], [], 0)[0], [])
        self.assertEqual(self.client.poll(), [])
        with self.assertRaises(kvtier.NotFoundError):
            tickets[0].wait(5)

    def test_errors_come_with_the_completion(self):
        ticket = self.client.submit_reserve(self.model, parent=self.keys(1)[0])
        (completion,) = self.poll(1)
        self.assertIs(completion.ticket, ticket)
        self.assertIsInstance(completion.error, kvtier.FailedPreconditionError)
        with self.assertRaises(kvtier.FailedPreconditionError):
            completion.result()
        with self.assertRaises(kvtier.FailedPreconditionError):
            self.client.submit_reserve(self.model, parent=self.keys(1)[0]).wait(30)

    def test_limit(self):
        client = self.connect(tickets_max=2)
        model = client.register_model(GEOMETRY)
        tickets = [client.submit_lookup(model, []) for _ in range(2)]
        with self.assertRaises(kvtier.ResourceExhaustedError):
            client.submit_lookup(model, [])
        tickets[0].wait(30)
        client.submit_lookup(model, []).wait(30)

    def test_wait_gives_up_and_closing_cancels(self):
        self.pause()
        ticket = self.client.submit_lookup(self.model, [])
        with self.assertRaises(kvtier.DeadlineExceededError):
            ticket.wait(0.01)
        self.client.close()
        with self.assertRaises(kvtier.CancelledError):
            ticket.wait(30)

    def test_asyncio(self):
        """The client is a file to an event loop; each ticket becomes a future."""
        keys = self.keys(2)
        store(self.client, self.model, keys)

        async def lookups():
            loop, futures = asyncio.get_running_loop(), {}

            def ready():
                for completion in self.client.poll():
                    futures.pop(completion.ticket).set_result(completion.result())

            loop.add_reader(self.client, ready)
            waiting = []
            for _ in range(10):
                ticket = self.client.submit_lookup(self.model, keys, lease=False)
                futures[ticket] = loop.create_future()
                waiting.append(futures[ticket])
            found = await asyncio.wait_for(asyncio.gather(*waiting), 30)
            loop.remove_reader(self.client)
            return [lease.chunks for lease in found]

        self.assertEqual(asyncio.run(lookups()), [2] * 10)


class Threads(DaemonCase):
    def all_of(self, functions):
        errors = []

        def run(function):
            try:
                function()
            except BaseException as error:  # shown by the main thread
                errors.append(error)

        threads = [threading.Thread(target=run, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive(), "a thread hangs")
        if errors:
            raise errors[0]

    def test_threads_share_a_client(self):
        def work(seed):
            for round_ in range(6):
                keys = self.keys(3, seed=1000 * seed + round_ % 3)
                store(self.client, self.model, keys)
                with self.client.lookup(self.model, keys) as lease:
                    fetch(lease, keys)
                ticket = self.client.submit_lookup(self.model, keys)
                with ticket.wait(30) as lease:
                    fetch(lease, keys)

        self.all_of([lambda seed=seed: work(seed) for seed in range(8)])

    def test_polling_threads_take_each_completion_once(self):
        taken, count, lock = [], 200, threading.Lock()

        def submit():
            for _ in range(count // 2):
                self.client.submit_lookup(self.model, [])

        def poll():
            while True:
                with lock:
                    if len(taken) >= count:
                        return
                select.select([self.client], [], [], 0.01)
                found = [completion.ticket.number for completion in self.client.poll(3)]
                with lock:
                    taken.extend(found)

        self.all_of([submit, submit, poll, poll, poll])
        self.assertEqual(len(set(taken)), count)

    def test_a_call_that_waits_holds_nobody_up(self):
        """Of a daemon that is stopped nothing comes for seconds; other threads of Python run on meanwhile."""
        client = self.connect(unavailable_after=3.0)
        model = client.register_model(GEOMETRY)
        self.pause()
        done = threading.Event()

        def lookup():
            with self.assertRaises(kvtier.UnavailableError):
                client.lookup(model, [])
            done.set()

        thread = threading.Thread(target=lookup)
        longest, before = 0.0, time.monotonic()
        thread.start()
        turns = 0
        while not done.is_set():
            now = time.monotonic()
            longest, before, turns = max(longest, now - before), now, turns + 1
        thread.join()
        self.assertGreater(turns, 10_000)
        self.assertLess(longest, 2.0)


if __name__ == "__main__":
    sys.exit(main("python_tickets_test"))
