"""Proves that Python reads and writes blocks where they lie, and that no order of ends harms anybody: views are over with
their section, arrays that outlive it keep what they show, also when the daemon, the client or the process goes.
"""

import gc
import sys
import threading

import numpy
from package import (CHUNK_TOKENS, GEOMETRY, KEY_BYTES, PLANE_BYTES, VALUE_BYTES, DaemonCase, cli_world, content, fetch,
                     kvtier, main, run_script, store)


class SectionCase(DaemonCase):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.client.transport_note, "")
        self.assertEqual(self.client.transport, kvtier.Transport.SHARED_MEMORY)

    def stored(self, chunks, seed=1):
        keys = self.keys(chunks, seed)
        store(self.client, self.model, keys)
        return keys


class Reading(SectionCase):
    def test_blocks_are_read_in_place(self):
        keys = self.stored(3)
        with self.client.lookup(self.model, keys) as lease, self.client.read_section() as section:
            for chunk, key in enumerate(keys):
                for plane in (0, 1):
                    view = section.view(lease, chunk, plane)
                    self.assertTrue(view.readonly)
                    self.assertEqual((view.nbytes, bytes(view)), (PLANE_BYTES[plane], content(key, plane)))
            blocks = [(2, 1), (0, 0)]
            self.assertEqual([bytes(view) for view in section.views(lease, blocks)],
                             [content(keys[chunk], plane) for chunk, plane in blocks])
            array = section.array(lease, 1, 1, "<u4")
            self.assertEqual((array.shape, array.tobytes()), ((VALUE_BYTES // 4,), content(keys[1], 1)))
            with self.assertRaises(ValueError):
                array[0] = 1
            with self.assertRaises(TypeError):
                view[0] = 1
            del array

    def test_nothing_of_a_section_works_after_it(self):
        keys = self.stored(1)
        with self.client.lookup(self.model, keys) as lease:
            with self.client.read_section() as section:
                view = section.view(lease, 0, 0)
                (other,) = section.views(lease, [(0, 1)])
                self.assertTrue(section.open)
            self.assertFalse(section.open)
            for ended in (view, other):
                with self.assertRaises(ValueError):
                    bytes(ended)
            with self.assertRaises(kvtier.FailedPreconditionError):
                section.view(lease, 0, 0)
            section.leave()
        with self.client.read_section() as section, self.assertRaises(kvtier.NotFoundError):
            section.view(lease, 0, 0)

    def test_arrays_keep_what_they_show(self):
        """An array outlives its section and lease; the block is forgotten and others are stored in its stead."""
        (key,) = self.stored(1)
        with self.client.lookup(self.model, [key]) as lease, self.client.read_section() as section:
            array = section.array(lease, 0, 1)
            rest = section.view(lease, 0, 0)[100:]
        self.assertTrue(section.open)
        self.client.forget(self.model, [key])
        for seed in range(1000, 40_000, 1000):
            self.stored(8, seed)
        self.assertEqual(array.tobytes(), content(key, 1))
        self.assertEqual(bytes(rest), content(key, 0)[100:])
        del array
        self.assertTrue(section.open)
        rest.release()
        self.assertFalse(section.open)

    def test_wrong_blocks(self):
        keys = self.stored(1)
        with self.client.lookup(self.model, keys) as lease, self.client.read_section() as section:
            for wrong in ((1, 0), (0, 2), (-1, 0), (2**32, 0)):
                with self.assertRaises(kvtier.InvalidArgumentError):
                    section.view(lease, *wrong)
            with self.assertRaises(TypeError):
                section.views(lease, [(0, 0, 0)])
            self.assertEqual(len(section.array(lease, 0, 0, "<u8")), KEY_BYTES // 8)
            with self.assertRaises(ValueError):
                section.array(lease, 0, 0, "3u4")  # 12 bytes, of which 5000 is no multiple

    def test_limit_of_sections(self):
        sections = []
        with self.assertRaises(kvtier.ResourceExhaustedError):
            for _ in range(1000):
                sections.append(self.client.read_section())
        self.assertEqual(len(sections), 256)
        sections.clear()
        gc.collect()
        self.client.read_section().leave()

    def test_threads_share_a_section(self):
        keys = self.stored(8)
        errors = []

        def read(section, lease):
            try:
                for _ in range(50):
                    for chunk, key in enumerate(keys):
                        self.assertEqual(bytes(section.view(lease, chunk, 0)), content(key, 0))
            except BaseException as error:
                errors.append(error)

        with self.client.lookup(self.model, keys) as lease, self.client.read_section() as section:
            threads = [threading.Thread(target=read, args=(section, lease)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        self.assertEqual(errors, [])

    def test_by_stream_there_is_none(self):
        keys = self.stored(1)
        client = self.connect(transport=kvtier.Transport.STREAM)
        self.assertEqual(client.transport, kvtier.Transport.STREAM)
        with self.assertRaises(kvtier.UnavailableError):
            client.read_section()
        model = client.register_model(GEOMETRY)
        with client.lookup(model, keys) as lease:
            fetch(lease, keys)
        with client.reserve(model) as reservation, self.assertRaises(kvtier.Error) as caught:
            reservation.buffer(0, 0)
        self.assertIsInstance(caught.exception, (kvtier.UnavailableError, kvtier.FailedPreconditionError))


class Writing(SectionCase):
    def test_blocks_are_written_in_place(self):
        keys = self.keys(3)
        with self.client.reserve(self.model, chunks=3) as reservation:
            views = []
            for chunk, key in enumerate(keys):
                view = reservation.buffer(chunk, 0)
                view[:] = content(key, 0)
                reservation.array(chunk, 1)[:] = numpy.frombuffer(content(key, 1), dtype="u1")
                views.append(view)
            self.assertEqual(reservation.commit([(0, keys[0], CHUNK_TOKENS)]), [kvtier.CommitResult.COMMITTED])
            with self.assertRaises(ValueError):
                views[0][0] = 1
            self.assertEqual(bytes(views[1]), content(keys[1], 0))
            reservation.commit([(chunk, keys[chunk], CHUNK_TOKENS) for chunk in (1, 2)])
            with self.assertRaises(ValueError):
                bytes(views[2])
        with self.client.lookup(self.model, keys) as lease:
            self.assertEqual(lease.chunks, 3)
            fetch(lease, keys)
            with self.client.read_section() as section:
                self.assertEqual(bytes(section.view(lease, 2, 1)), content(keys[2], 1))
        other = self.connect(transport=kvtier.Transport.STREAM)
        with other.lookup(other.register_model(GEOMETRY), keys) as lease:
            fetch(lease, keys)

    def test_put_and_in_place_mix(self):
        (key,) = self.keys(1)
        with self.client.reserve(self.model) as reservation:
            reservation.put([(0, 0, content(key, 0))])
            reservation.buffer(0, 1)[:] = content(key, 1)
            reservation.commit_keys([key])
        with self.client.lookup(self.model, [key]) as lease:
            fetch(lease, [key])

    def test_abort_ends_views(self):
        with self.client.reserve(self.model) as reservation:
            view = reservation.buffer(0, 0)
        with self.assertRaises(ValueError):
            view[0] = 1
        with self.assertRaises(kvtier.NotFoundError):
            reservation.buffer(0, 0)

    def test_memory_of_a_lost_daemon_can_still_be_written(self):
        reservation = self.client.reserve(self.model)
        view, array = reservation.buffer(0, 0), reservation.array(0, 1)
        self.world.stop(9)
        with self.assertRaises(kvtier.UnavailableError):
            self.client.lookup(self.model, [])
        self.world.start(cli_world.SMALL)
        self.client.wait_attached(30)
        view[:] = bytes(KEY_BYTES)
        array[:] = 7
        reservation.abort()
        with self.assertRaises(ValueError):
            view[0] = 1
        array[:] = 8


class Ends(SectionCase):
    def test_blocks_of_a_lost_daemon_stay_readable(self):
        keys = self.stored(2)
        lease = self.client.lookup(self.model, keys)
        with self.client.read_section() as section:
            view, array = section.view(lease, 0, 0), section.array(lease, 1, 1)
            self.world.stop(9)
            with self.assertRaises(kvtier.UnavailableError):
                self.client.lookup(self.model, keys)
            self.world.start(cli_world.SMALL)
            self.client.wait_attached(30)
            self.assertEqual((bytes(view), array.tobytes()), (content(keys[0], 0), content(keys[1], 1)))
        self.assertEqual(array.tobytes(), content(keys[1], 1))
        lease.release()

    def test_client_that_is_closed_or_dropped_first(self):
        keys = self.stored(1)
        for drop in (False, True):
            client = self.connect() if not drop else kvtier.connect(self.world.socket)
            lease = client.lookup(client.register_model(GEOMETRY), keys)
            section = client.read_section()
            view, array = section.view(lease, 0, 0), section.array(lease, 0, 1)
            client.close()
            lease.handle = 0
            if drop:
                del client, lease
                gc.collect()
            self.assertEqual((bytes(view), array.tobytes()), (content(keys[0], 0), content(keys[0], 1)))
            del section, view
            gc.collect()
            self.assertEqual(array.tobytes(), content(keys[0], 1))
            del array

    def script(self, text, expect=0):
        setup = """
import gc, os, sys
from package import *
client = kvtier.connect(sys.argv[1])
model = client.register_model(GEOMETRY)
keys = model.prefix_keys(range(4))
store(client, model, keys)
lease = client.lookup(model, keys)
section = client.read_section()
view, array = section.view(lease, 0, 0), section.array(lease, 0, 1)
reservation = client.reserve(model)
written, more = reservation.buffer(0, 0), reservation.array(0, 1)
"""
        return run_script(setup + text, self.world.socket, expect=expect).split()

    def test_exit_with_everything_alive(self):
        self.script("sys.held = [view, array, written, more, section]; sys.held.append(sys.held); sys.exit(3)", 3)

    def test_views_are_over_in_a_forked_child(self):
        output = self.script("""
child = os.fork()
if child == 0:
    for one in (view, written):
        try:
            bytes(one)
        except ValueError:
            print("over", flush=True)
    del section, view, written, reservation, lease, client
    gc.collect()
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert bytes(view) == content(keys[0], 0)
written[:] = bytes(5000)
""")
        self.assertEqual(output, ["over", "over", "5"])


if __name__ == "__main__":
    sys.exit(main("python_sections_test"))
