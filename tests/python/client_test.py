"""Proves that the Python client stores and finds what the daemon has: round trips of every kind of call, errors as the
classes that the daemon's codes stand for, and context managers that end what they began.
"""

import array
import gc
import sys
import threading
import warnings

import numpy
from package import CHUNK_TOKENS, GEOMETRY, DaemonCase, content, fetch, kvtier, main, run_script, store


class RoundTrip(DaemonCase):
    def test_stored_chunks_are_found_by_another_client(self):
        keys = self.keys(5)
        self.assertEqual(store(self.client, self.model, keys, last_token_count=2), [kvtier.CommitResult.COMMITTED] * 5)
        other = self.connect(name="other")
        model = other.register_model(GEOMETRY)
        self.assertEqual(model.prefix_keys(range(1, 1 + 5 * CHUNK_TOKENS)), keys)
        with other.lookup(model, keys) as lease:
            self.assertEqual((lease.chunks, len(lease), bool(lease)), (5, 5, True))
            result = fetch(lease, keys)
            self.assertTrue(result.all_ok)
            self.assertEqual(sum(result.bytes_by_pool.values()), 5 * (5000 + 12288))
            self.assertEqual({block.pool for block in result.blocks}, set(result.bytes_by_pool))

    def test_prefix_of_what_is_known_matches(self):
        keys = self.keys(3)
        store(self.client, self.model, keys[:2])
        with self.client.lookup(self.model, keys) as lease:
            self.assertEqual(lease.chunks, 2)
        with self.client.lookup(self.model, self.keys(3, seed=900)) as lease:
            self.assertFalse(lease)
            self.assertEqual(lease.handle, 0)
            self.assertEqual(lease.get([(chunk, 0, bytearray()) for chunk in range(lease.chunks)]), ([], {}, True))
            with self.assertRaises(kvtier.NotFoundError):
                lease.get([(0, 0, bytearray(5000))])
        self.assertEqual(self.client.lookup(self.model, keys, lease=False).handle, 0)
        self.assertEqual(store(self.client, self.model, keys, first=1),
                         [kvtier.CommitResult.ALREADY_EXISTS, kvtier.CommitResult.COMMITTED])

    def test_planes_committed_one_by_one(self):
        (key,) = self.keys(1)
        with self.client.reserve(self.model, planes=[1]) as later, self.client.reserve(self.model) as reservation:
            reservation.put([(0, 0, content(key, 0))])
            self.assertEqual(reservation.commit([(0, key, CHUNK_TOKENS, [0])]), [kvtier.CommitResult.PARTIAL])
            self.assertFalse(self.client.lookup(self.model, [key], lease=False))
            later.put([(0, 1, content(key, 1))])
            self.assertEqual(later.commit([kvtier.ChunkCommit(0, key, CHUNK_TOKENS)]), [kvtier.CommitResult.COMMITTED])
        with self.client.lookup(self.model, [key]) as lease:
            fetch(lease, [key])

    def test_enums_print_as_their_names(self):
        client = self.connect(transport=kvtier.Transport.STREAM)
        self.assertEqual((str(client.transport), f"{client.transport}", int(client.transport)), ("STREAM", "STREAM", 1))
        for value in (kvtier.CommitResult.PARTIAL, kvtier.EventKind.GAP, kvtier.PlaneType.STATE, kvtier.Priority.LOW,
                      kvtier.StatusCode.DATA_LOSS, kvtier.Verify.OFF):
            self.assertEqual(str(value), value.name)

    def test_keys(self):
        tokens = [7, 2**32 - 1, 0, 5, 9, 11]
        first, second = keys = self.model.prefix_keys(tokens)
        self.assertEqual([len(key) for key in keys], [16, 16])
        for same in (tuple(tokens), iter(tokens), array.array("I", tokens), numpy.array(tokens, dtype=numpy.int64),
                     numpy.array(tokens, dtype=numpy.uint32), numpy.repeat(tokens, 2)[::2]):
            self.assertEqual(self.model.prefix_keys(same), keys, same)
        self.assertEqual(self.model.chunk_key(None, tokens[:4]), first)
        self.assertEqual(self.model.chunk_key(first, numpy.array(tokens[4:])), second)
        self.assertNotEqual(self.model.prefix_keys(tokens, b"adapter"), keys)
        self.assertEqual(len({self.model.opaque_key(parent, name, extra) for parent in (None, first)
                              for name in (b"a", b"b") for extra in (b"", b"c")}), 8)

    def test_lease_calls(self):
        keys = self.keys(2)
        store(self.client, self.model, keys)
        with self.client.lookup(self.model, keys, ttl=5) as lease:
            self.assertEqual(lease.ttl, 5)
            self.assertEqual((lease.renew(7.5), lease.ttl), (7.5, 7.5))
            lease.report([kvtier.ReadReport(0, 3, [0.5, 0.25]), (1, 3, numpy.array([1.0, 0.0]))])
            self.assertLessEqual(self.client.prefetch(self.model, keys), 2)
        self.assertEqual(self.client.forget(self.model, keys[1:]), 1)
        self.assertEqual(self.client.lookup(self.model, keys, lease=False).chunks, 1)

    def test_state(self):
        self.assertTrue(self.client.attached)
        self.assertNotEqual(self.client.daemon_epoch, 0)
        self.assertTrue(self.client.tenant)
        self.client.wait_attached(5)
        self.assertEqual(self.model.geometry, GEOMETRY)

    def test_default_socket(self):
        # In a process of its own, since the environment belongs to all threads.
        script = "import kvtier, os; os.environ['KVTIER_SOCKET'] = '/somewhere'; print(kvtier.default_socket_path())"
        self.assertEqual(run_script(script).strip(), "/somewhere")


class Events(DaemonCase):
    def test_events_arrive_in_order_and_resume(self):
        keys = self.keys(1)
        with self.client.watch() as events:
            event = None
            while event is None:  # a watch begins some time after it is asked for
                store(self.client, self.model, keys)
                self.client.forget(self.model, keys)
                event = events.next(timeout=0.05)
            self.assertIsInstance(event, kvtier.WatchEvent)
            self.assertIsInstance(event.kind, kvtier.EventKind)
            store(self.client, self.model, keys)  # the event may have been the last of those so far
            following = next(events)
            self.assertGreater(following.sequence, event.sequence)
            self.assertEqual(events.last_sequence, following.sequence)
        with self.assertRaises(StopIteration):
            next(events)
        with self.client.watch(after_sequence=event.sequence) as events:
            again = next(events)
            self.assertEqual(again, following)

    def test_closing_ends_a_watch_that_waits(self):
        for close in ("watch", "client"):
            client = self.connect()
            events, ended = client.watch(), []
            thread = threading.Thread(target=lambda: ended.append(list(events)))
            thread.start()
            (events if close == "watch" else client).close()
            thread.join(30)
            self.assertEqual(ended, [[]], close)


class Errors(DaemonCase):
    def raises(self, cls, words, call, *args, **kwargs):
        with self.assertRaises(cls) as caught:
            call(*args, **kwargs)
        self.assertIn(words, str(caught.exception))
        return caught.exception

    def test_classes(self):
        codes = {code: kvtier.errors.error_for(code, "m") for code in kvtier.StatusCode}
        self.assertEqual(len({type(error) for error in codes.values()}), 16)
        for code, error in codes.items():
            self.assertIsInstance(error, kvtier.Error)
            self.assertEqual((error.code, error.message, str(error)), (code, "m", "m"))
        self.assertIs(type(kvtier.errors.error_for(99, "m")), kvtier.UnknownError)

    def test_nobody_answers(self):
        socket = self.world.socket + ".nobody"
        error = self.raises(kvtier.UnavailableError, socket, kvtier.connect, socket)
        self.assertEqual(error.code, kvtier.StatusCode.UNAVAILABLE)
        self.assertEqual(error.message, str(error))

    def test_wrong_options(self):
        self.raises(kvtier.InvalidArgumentError, "unavailable_after", self.connect, unavailable_after=0.001)
        self.raises(ValueError, "call_timeout", self.connect, call_timeout=float("nan"))
        self.raises(kvtier.InvalidArgumentError, "129", self.connect, name="x" * 129)
        self.raises(TypeError, "", self.connect, tickets_max=-1)

    def test_wrong_arguments(self):
        keys, reserve, lookup = self.keys(2), self.client.reserve, self.client.lookup
        self.raises(kvtier.FailedPreconditionError, "", reserve, self.model, parent=keys[0])
        self.raises(kvtier.InvalidArgumentError, "3 bytes", reserve, self.model, parent=b"abc")
        self.raises(TypeError, "keys are bytes", reserve, self.model, parent="abc")
        self.raises(kvtier.InvalidArgumentError, "chunks is -1", reserve, self.model, chunks=-1)
        self.raises(kvtier.InvalidArgumentError, "4294967296", reserve, self.model, chunks=2**32)
        self.raises(TypeError, "", reserve, self.model, chunks=1.5)
        self.raises(TypeError, "not one key", lookup, self.model, keys[0])
        self.raises(kvtier.InvalidArgumentError, "ttl", lookup, self.model, keys, ttl=-1)
        self.raises(kvtier.InvalidArgumentError, "token 1 is -5", self.model.prefix_keys, [1, -5])
        self.raises(kvtier.InvalidArgumentError, "token 1 is -5", self.model.prefix_keys, numpy.array([1, -5]))
        self.raises(TypeError, "2 dimensions", self.model.prefix_keys, numpy.zeros((2, 2), dtype=numpy.int32))
        self.raises(TypeError, "'d'", self.model.prefix_keys, numpy.zeros(3))
        self.raises(kvtier.InvalidArgumentError, "", self.client.register_model,
                    kvtier.ModelGeometry("none", chunk_tokens=0, planes=[kvtier.Plane("p", 1)]))
        other = self.connect()
        self.raises(kvtier.InvalidArgumentError, "not registered", other.lookup, self.model, keys)

    def test_what_ended_is_not_found(self):
        keys = self.keys(1)
        store(self.client, self.model, keys)
        lease = self.client.lookup(self.model, keys)
        handle = lease.handle
        lease.release()
        lease.release()
        lease.handle = handle
        self.raises(kvtier.NotFoundError, f"lease {handle}", lease.get, [(0, 0, bytearray(5000))])
        lease.release()

    def test_full_pools(self):
        """Leases hold all that fits; then there is no room, and that is one class of error."""
        held = []
        with self.assertRaises(kvtier.ResourceExhaustedError):
            for seed in range(10**6, 10**9, 10**5):
                held.append(self.client.reserve(self.model, chunks=256))
        for reservation in held:
            reservation.abort()
        store(self.client, self.model, self.keys(1))


class ContextManagers(DaemonCase):
    def test_lease_and_reservation_end_with_their_block(self):
        keys = self.keys(1)
        with self.assertRaises(ZeroDivisionError):
            with self.client.reserve(self.model) as reservation:
                handle = reservation.handle
                raise ZeroDivisionError
        reservation.handle = handle
        with self.assertRaises(kvtier.NotFoundError):
            reservation.put([(0, 0, content(keys[0], 0))])
        reservation.abort()
        store(self.client, self.model, keys)
        with self.client.lookup(self.model, keys) as lease:
            handle = lease.handle
            self.assertNotEqual(handle, 0)
        lease.handle = handle
        with self.assertRaises(kvtier.NotFoundError):
            lease.renew()
        lease.release()

    def test_client_closes(self):
        with self.connect() as client:
            model = client.register_model(GEOMETRY)
            lease = client.lookup(model, [])
        self.assertTrue(client.closed)
        for call in (lambda: client.register_model(GEOMETRY), lambda: client.lookup(model, []),
                     lambda: client.wait_attached(1), lambda: client.submit_lookup(model, []), client.watch().next):
            with self.assertRaises(kvtier.CancelledError):
                call()
        self.assertFalse(client.attached)
        lease.release()
        client.close()

    def test_forgotten_ones_are_released_by_a_later_call(self):
        keys = self.keys(1)
        store(self.client, self.model, keys)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            lease = self.client.lookup(self.model, keys)
            handle = lease.handle
            self.client.reserve(self.model)
            del lease
            gc.collect()
        self.assertEqual([warning.category for warning in caught], [ResourceWarning] * 2, caught)
        with self.client.lookup(self.model, keys):
            with self.assertRaises(kvtier.NotFoundError):
                self.client._raw.renew(handle, 1)


if __name__ == "__main__":
    sys.exit(main("python_client_test"))
