"""Proves what memory the Python client takes: anything with a contiguous buffer, whole or in pieces, of the right size,
writable where it is written to; and that it is the operation's until its completion, whoever drops it meanwhile.
"""

import array
import gc
import select
import sys
import weakref

import numpy
from package import CHUNK_TOKENS, KEY_BYTES, VALUE_BYTES, DaemonCase, content, kvtier, main, store


class Memory(DaemonCase):
    def setUp(self):
        super().setUp()
        (self.key,) = self.keys(1)
        self.k, self.v = content(self.key, 0), content(self.key, 1)

    def put(self, *blocks):
        with self.client.reserve(self.model) as reservation:
            reservation.put(blocks)
            reservation.commit([(0, self.key, CHUNK_TOKENS)])

    def get(self, *blocks):
        with self.client.lookup(self.model, [self.key]) as lease:
            lease.get(blocks).raise_if_failed()

    def refused(self, cls, words, *blocks):
        """Neither as a source nor as a destination; nothing stays held."""
        with self.client.reserve(self.model) as reservation, self.client.lookup(self.model, [self.key]) as lease:
            for call in (reservation.put, reservation.submit_put, lease.get, lease.submit_get):
                with self.assertRaises(cls, msg=call) as caught:
                    ticket = call(blocks)
                    if ticket is not None:
                        ticket.wait(30)
                self.assertIn(words, str(caught.exception))

    def test_kinds_of_sources(self):
        values = numpy.frombuffer(self.v, dtype=numpy.float32).reshape(2, -1)
        for k, v in ((self.k, values), (bytearray(self.k), memoryview(self.v)), (array.array("B", self.k), self.v)):
            self.put((0, 0, k), (numpy.int64(0), numpy.uint8(1), v))
            k, v = bytearray(KEY_BYTES), numpy.zeros((3, VALUE_BYTES // 12), dtype=numpy.int32)
            self.get((0, 0, memoryview(k)), (0, 1, v))
            self.assertEqual((k, v.tobytes()), (self.k, self.v))
            self.client.forget(self.model, [self.key])

    def test_pieces(self):
        pages = numpy.frombuffer(self.v, dtype=numpy.uint8).reshape(6, -1)
        self.put((0, 0, [self.k[:1], b"", memoryview(self.k)[1:4100], self.k[4100:]]), (0, 1, list(pages)))
        strided = numpy.zeros((6, 2, VALUE_BYTES // 6), dtype=numpy.uint8)
        whole = bytearray(KEY_BYTES)
        self.get((0, 1, tuple(strided[:, 1])), (0, 0, [memoryview(whole)[:7], memoryview(whole)[7:]]))
        self.assertEqual(whole, self.k)
        self.assertEqual(strided[:, 1].tobytes(), self.v)
        self.assertFalse(strided[:, 0].any())

    def test_wrong_memory(self):
        self.put((0, 0, self.k), (0, 1, self.v))
        good = bytearray(KEY_BYTES)
        every_second = numpy.zeros(2 * KEY_BYTES, dtype=numpy.uint8)[::2]
        columns = numpy.asfortranarray(numpy.zeros((50, KEY_BYTES // 50), dtype=numpy.uint8))
        self.refused(kvtier.InvalidArgumentError, "block 0 is not contiguous", (0, 0, every_second))
        self.refused(kvtier.InvalidArgumentError, "block 0 is not contiguous", (0, 0, columns))
        self.refused(kvtier.InvalidArgumentError, "block 1, piece 1 is not contiguous",
                     (0, 0, good), (0, 0, [good, every_second]))
        self.refused(TypeError, "block 0 is a str", (0, 0, "text"))
        self.refused(TypeError, "block 0, piece 0 is a int", (0, 0, [1, 2]))
        self.refused(TypeError, "block 0 is not a tuple", good)
        self.refused(TypeError, "block 0 is not a tuple", (0, 0))
        self.refused(kvtier.InvalidArgumentError, "its chunk is -1", (-1, 0, good))
        self.refused(kvtier.InvalidArgumentError, "5000", (0, 0, good[:-1]))
        self.refused(kvtier.InvalidArgumentError, "", (1, 0, good))
        good.append(1)  # a bytearray that is held refuses this

    def test_read_only_destinations(self):
        self.put((0, 0, self.k), (0, 1, self.v))
        array_of_ours = numpy.zeros(KEY_BYTES, dtype=numpy.uint8)
        array_of_ours.flags.writeable = False
        with self.client.lookup(self.model, [self.key]) as lease:
            for memory in (bytes(KEY_BYTES), memoryview(bytearray(KEY_BYTES)).toreadonly(), array_of_ours):
                for call in (lease.get, lease.submit_get):
                    with self.assertRaises(kvtier.InvalidArgumentError) as caught:
                        call([(0, 0, memory)])
                    self.assertIn("block 0 is read-only", str(caught.exception))

    def test_an_error_of_the_callers_iterable_comes_through(self):
        def blocks():
            yield (0, 0, self.k)
            raise KeyError("mine")

        with self.client.reserve(self.model) as reservation:
            for call in (reservation.put, reservation.submit_put):
                with self.assertRaises(KeyError):
                    call(blocks())


class Lifetime(DaemonCase):
    def test_memory_is_held_until_the_completion_was_taken(self):
        (key,) = self.keys(1)
        store(self.client, self.model, [key])
        memory = bytearray(KEY_BYTES)
        with self.client.lookup(self.model, [key]) as lease:
            ticket = lease.submit_get([(0, 0, memory)])
            for _ in range(2):
                with self.assertRaises(BufferError):
                    memory.append(1)
                while not self.readable():
                    pass
            ticket.wait(30)
            memory.append(1)
            self.assertEqual(memory[:-1], content(key, 0))

    def readable(self):
        return select.select([self.client], [], [], 30)[0]

    def test_memory_that_only_the_ticket_knows(self):
        """The operation reads and writes memory whose owners and ticket are gone: under many, one would crash."""
        keys = self.keys(30)
        with self.client.reserve(self.model, chunks=len(keys)) as reservation:
            puts = [reservation.submit_put([(chunk, plane, bytearray(content(key, plane))) for plane in (0, 1)])
                    for chunk, key in enumerate(keys)]
            numbers = {ticket.number for ticket in puts}
            del puts
            gc.collect()
            while numbers:
                for completion in self.client.poll():
                    completion.result()
                    numbers.remove(completion.ticket.number)
            reservation.commit_keys(keys)
        with self.client.lookup(self.model, keys) as lease:
            arrays = [numpy.zeros(VALUE_BYTES, dtype=numpy.uint8) for _ in keys]
            alive = [weakref.ref(memory) for memory in arrays]
            tickets = [lease.submit_get([(chunk, 1, memory)]) for chunk, memory in enumerate(arrays)]
            del arrays
            gc.collect()
            self.assertEqual([ref() is None for ref in alive], [False] * len(keys))
            for chunk, ticket in enumerate(tickets):
                memory = alive[chunk]()
                ticket.wait(30)
                self.assertEqual(memory.tobytes(), content(keys[chunk], 1))
                del memory
                self.assertIsNone(alive[chunk]())

    def test_memory_of_a_client_that_goes(self):
        """A client that is dropped with operations in flight ends them before it lets go of their memory."""
        keys = self.keys(20)
        for _ in range(5):
            client = kvtier.connect(self.world.socket)
            model = client.register_model(self.model.geometry)
            reservation = client.reserve(model, chunks=len(keys))
            memory = [bytearray(content(key, 1)) for key in keys]
            for chunk, one in enumerate(memory):
                reservation.submit_put([(chunk, 1, one)])
            reservation.handle = 0  # so that nothing warns of it
            alive = weakref.ref(client)
            del client, model, reservation
            gc.collect()
            self.assertIsNone(alive())
            for one in memory:
                one.append(1)


if __name__ == "__main__":
    sys.exit(main("python_buffers_test"))
