"""Checks the certificate of a placement bound, apart from kvtier: own readers, integers of any size.

    scripts/verify_bound.py INSTANCE CERTIFICATE

The files are those that `kvtier bound` writes; tiering/bound/instance_file.h and certificate.h have their
layout, verifier.h the formula. It goes through every phase of every block one by one, for instances up to a
few million phases of blocks. Prints a line of JSON. Exit status: 0 the bound holds, 1 it does not, 2 a file cannot be
read or is none of its kind.
"""

import hashlib
import json
import struct
import sys

SHARE_BITS = 40
ROOM_BITS = 32
QUANTA_PER_SECOND_MAX = 1 << 54
ROOM_MAX = 1 << 60
NO_RESOURCE = 255
STATES_MAX = 16


class Unreadable(Exception):
    """A file is not of its kind."""


class Refused(Exception):
    """The certificate does not prove what it claims."""


class Reader:
    def __init__(self, data, name):
        self.data, self.name, self.at = data, name, 0

    def take(self, form):
        size = struct.calcsize("<" + form)
        if size > len(self.data) - self.at:
            raise Unreadable(f"{self.name}: ends at byte {len(self.data)}; {size} more are wanted at byte {self.at}")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values if len(values) > 1 else values[0]

    def array(self, form, count):
        if count * struct.calcsize("<" + form) > len(self.data) - self.at:
            raise Unreadable(f"{self.name}: {count} numbers do not fit in what is left at byte {self.at}")
        values = struct.unpack_from(f"<{count}{form}", self.data, self.at)
        self.at += count * struct.calcsize("<" + form)
        return values

    def want(self, magic):
        if self.data[:8] != magic:
            raise Unreadable(f"{self.name}: does not begin with {magic.decode()}")
        self.at = 8
        version = self.take("I")
        if version != 1:
            raise Unreadable(f"{self.name}: version {version}; this program reads 1")

    def end(self):
        if self.at != len(self.data):
            raise Unreadable(f"{self.name}: {len(self.data) - self.at} bytes more than there should be")


class Table:
    """options[accesses][before][after] is a list of (units for a byte by resource, recomputations)."""

    def __init__(self, reader, resources):
        count, accesses_max = reader.take("II")
        if not 1 <= count <= STATES_MAX:
            raise Unreadable(f"{reader.name}: a table of {count} states")
        self.states = reader.array("B", count)
        self.options = []
        for _ in range(accesses_max + 1):
            self.options.append([[self._list(reader, resources) for _ in range(count)] for _ in range(count)])
        if any(recomputations for before in self.options[0] for after in before for _, recomputations in after):
            raise Unreadable(f"{reader.name}: a table that recomputes in phases without access")

    @staticmethod
    def _list(reader, resources):
        options = []
        for _ in range(reader.take("I")):
            units = reader.array("H", resources)
            options.append((units, reader.take("H")))
        return options


class Instance:
    def __init__(self, data, name):
        self.digest = hashlib.sha256(data).digest()
        reader = Reader(data, name)
        reader.want(b"KVTIERPI")
        tiers, resources, self.compute, tables, classes, self.phases = reader.take("IIIIII")
        blocks, accesses = reader.take("QQ")
        self.capacity = [self._named(reader) for _ in range(tiers)]
        self.rate = [self._named(reader) for _ in range(resources)]
        if 0 in self.rate or not (self.compute == NO_RESOURCE or self.compute < resources):
            raise Unreadable(f"{name}: a rate of zero, or a compute resource that is not there")
        self.tables = [Table(reader, resources) for _ in range(tables)]
        self.classes = [reader.take("QQII") for _ in range(classes)]
        base = reader.array("Q", self.phases * resources)
        self.base = [base[i * resources:(i + 1) * resources] for i in range(self.phases)]
        self.block_class = reader.array("I", blocks)
        self.birth = reader.array("I", blocks)
        self.death = reader.array("I", blocks)
        first = reader.array("Q", blocks + 1)
        phases = reader.array("I", accesses)
        reader.end()
        self.accesses = [phases[first[i]:first[i + 1]] for i in range(blocks)]
        for block, read in enumerate(self.accesses):
            life = range(self.birth[block], self.death[block])
            if not life or life.stop > self.phases or any(phase not in life for phase in read):
                raise Unreadable(f"{name}: block {block} is read outside its life, or lives outside the phases")

    @staticmethod
    def _named(reader):
        number, length = reader.take("QI")
        reader.array("B", length)
        return number


class Certificate:
    def __init__(self, data, name):
        reader = Reader(data, name)
        reader.want(b"KVTIERCB")
        self.digest = bytes(reader.array("B", 32))
        self.per_second, self.phases, self.resources, self.tiers = reader.take("QIII")
        low, high = reader.take("Qq")
        self.claim = (high << 64) + low
        share = reader.array("Q", self.phases * self.resources)
        room = reader.array("Q", self.phases * self.tiers)
        covered = reader.at
        checksum = bytes(reader.array("B", 32))
        reader.end()
        if hashlib.sha256(data[:covered]).digest() != checksum:
            raise Unreadable(f"{name}: its checksum is not that of its bytes")
        self.share = [share[i * self.resources:(i + 1) * self.resources] for i in range(self.phases)]
        self.room = [room[i * self.tiers:(i + 1) * self.tiers] for i in range(self.phases)]


def check_prices(instance, certificate):
    theirs = (certificate.phases, certificate.resources, certificate.tiers)
    ours = (instance.phases, len(instance.rate), len(instance.capacity))
    counts = ("it has prices for {} phases of {} resources and {} tiers; ".format(*theirs)
              + "this problem has {} of {} and {}".format(*ours))
    if certificate.digest != instance.digest:
        raise Refused(f"the certificate is for another instance: {counts}, and {len(instance.accesses)} blocks with "
                      f"{sum(map(len, instance.accesses))} accesses. The digest of its problem is "
                      f"{certificate.digest.hex()}, that of this one is {instance.digest.hex()}")
    if theirs != ours:
        raise Refused(f"the certificate is not for this instance: {counts}")
    if not 1 <= certificate.per_second <= QUANTA_PER_SECOND_MAX:
        raise Refused(f"{certificate.per_second} quanta a second")
    for phase in range(certificate.phases):
        if sum(certificate.share[phase]) > 1 << SHARE_BITS:
            raise Refused(f"the shares of phase {phase} sum to more than 1")
        if any(price > ROOM_MAX for price in certificate.room[phase]):
            raise Refused(f"a price of room in phase {phase} is above the limit")


def load_cost(instance, certificate, phase, units):
    """Quanta that units of each resource cost in the phase, rounded down."""
    share = certificate.share[phase]
    cost = 0
    for r, count in enumerate(units):
        cost += share[r] * (count * certificate.per_second // instance.rate[r])
    return cost >> SHARE_BITS


def block_cost(instance, certificate, block):
    """The cheapest way through the block's life."""
    size, recompute, table_number, starts = instance.classes[instance.block_class[block]]
    table = instance.tables[table_number]
    best = {state: 0 for state in range(len(table.states)) if starts >> state & 1}
    read = list(instance.accesses[block])
    for phase in range(instance.birth[block], instance.death[block]):
        lists = table.options[read.count(phase)]
        after = {}
        for before, cost in best.items():
            held = sum(price for tier, price in enumerate(certificate.room[phase])
                       if table.states[before] >> tier & 1)
            here = cost + (size * held >> ROOM_BITS)
            for state, options in enumerate(lists[before]):
                for per_byte, recomputations in options:
                    units = [count * size for count in per_byte]
                    if recomputations:
                        units[instance.compute] += recomputations * recompute
                    total = here + load_cost(instance, certificate, phase, units)
                    if state not in after or total < after[state]:
                        after[state] = total
        best = after
    if not best:
        raise Unreadable(f"block {block} has no way through its life")
    return min(best.values())


def proven(instance, certificate):
    """The bound in quanta that the prices prove."""
    total = 0
    for phase in range(instance.phases):
        total += load_cost(instance, certificate, phase, instance.base[phase])
        for price, capacity in zip(certificate.room[phase], instance.capacity):
            total -= -(-(price * capacity) >> ROOM_BITS)
    return total + sum(block_cost(instance, certificate, b) for b in range(len(instance.accesses)))


def verify(instance, certificate):
    """Returns the quanta proven; raises Refused."""
    check_prices(instance, certificate)
    quanta = proven(instance, certificate)
    if certificate.claim > quanta:
        raise Refused(f"the certificate claims {certificate.claim} quanta, and its prices prove {quanta}")
    return quanta


def read(path, kind):
    try:
        with open(path, "rb") as file:
            return kind(file.read(), path)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def main(arguments):
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        instance = read(arguments[0], Instance)
        certificate = read(arguments[1], Certificate)
        quanta = verify(instance, certificate)
    except Unreadable as why:
        print(json.dumps({"holds": False, "why": str(why)}))
        return 2
    except Refused as why:
        print(json.dumps({"holds": False, "why": str(why)}))
        return 1
    print(json.dumps({"holds": True, "claimed_quanta": certificate.claim, "proven_quanta": quanta,
                      "quanta_per_second": certificate.per_second,
                      "lower_bound_s": certificate.claim / certificate.per_second}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
