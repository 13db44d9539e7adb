"""Naive models of placement policies in one tier of a given number of chunks, as a simulation of prompts has it.

A prompt is a list of chunk names, each of which stands for the chunk and all before it. What is looked up is found up to
the first chunk that is not there; the rest is stored, BATCH chunks at a time, and what is chosen by the policy goes to
make room: only chunks without children, and none that the prompt has or that the batch hangs on. After each prompt some
room is made ahead. All searches are linear.
"""

BATCH = 16


class Cache:
    def __init__(self, policy, slots, ahead):
        self.policy, self.slots, self.ahead = policy, slots, ahead
        self.parent, self.children = {}, {}
        self.held = set()

    def leaf(self, chunk):
        return self.children[chunk] == 0 and chunk not in self.held

    def drop_one(self):
        victim = self.policy.victim(self)
        if victim is None:
            return False
        self.policy.remove(victim)
        parent = self.parent.pop(victim)
        del self.children[victim]
        if parent is not None:
            self.children[parent] -= 1
        return True

    def make_room(self, free):
        while self.slots - len(self.parent) < free:
            if not self.drop_one():
                return False
        return True

    def serve(self, prompt, now):
        """How many chunks were found."""
        found = next((i for i, chunk in enumerate(prompt) if chunk not in self.parent), len(prompt))
        self.policy.now = now
        for chunk in reversed(prompt[:found]):
            self.policy.touch(chunk)
        self.held = set(prompt[:found][-1:])
        at = found
        while at < len(prompt):
            batch = prompt[at:at + BATCH]
            parent = prompt[at - 1] if at > 0 else None
            self.held = set(prompt[:found][-1:]) | ({parent} if parent is not None else set())
            if not self.make_room(len(batch)):
                break
            for chunk in batch:
                self.parent[chunk], self.children[chunk] = parent, 0
                if parent is not None:
                    self.children[parent] += 1
                self.policy.commit(chunk, parent)
                parent = chunk
            at += len(batch)
        self.held = set()
        self.make_room(self.ahead)
        return found


class Lru:
    """The leaf that was used longest ago."""

    def __init__(self):
        self.used, self.now = {}, 0

    def touch(self, chunk):
        self.used[chunk] = self.now

    def commit(self, chunk, parent):
        self.used[chunk] = self.now

    def remove(self, chunk):
        del self.used[chunk]

    def order(self, chunk):
        return self.used[chunk]

    def victim(self, cache):
        return min((chunk for chunk in cache.parent if cache.leaf(chunk)), key=self.order, default=None)


class Lfu(Lru):
    """The leaf that was used least often since it was stored; of those, the one that was used longest ago."""

    def __init__(self):
        super().__init__()
        self.count = {}

    def touch(self, chunk):
        super().touch(chunk)
        self.count[chunk] = min(self.count[chunk] + 1, 15)

    def commit(self, chunk, parent):
        super().commit(chunk, parent)
        self.count[chunk] = 0

    def order(self, chunk):
        return self.count[chunk], self.used[chunk]


class Min(Lru):
    """The leaf that is used again last, or never."""

    def __init__(self, prompts):
        super().__init__()
        self.uses = {}
        for now, prompt in enumerate(prompts):
            for chunk in prompt:
                self.uses.setdefault(chunk, []).append(now)
        # Ties: what was first used later, and deeper.
        self.number = {chunk: i for i, chunk in enumerate(self.uses)}

    def order(self, chunk):
        later = next((use for use in self.uses[chunk] if use > self.now), float("inf"))
        return -later, -self.number[chunk]


class S3Fifo:
    """Two queues, the newest in front, as tiering/plan/s3fifo_policy.h describes them."""

    def __init__(self, slots):
        self.slots, self.now = slots, 0
        self.queues = {"small": [], "main": []}
        self.reads, self.ghost = {}, []
        self.last = {"small": None, "main": None}

    def where(self, chunk):
        return next(name for name in self.queues if chunk in self.queues[name])

    def touch(self, chunk):
        self.reads[chunk] = min(self.reads[chunk] + 1, 3)

    def commit(self, chunk, parent):
        name = "small"
        if chunk in self.ghost:
            self.ghost.remove(chunk)
            name = "main"
        self.reads[chunk] = 0
        queue = self.queues[name]
        queue.insert(0, chunk)
        if parent is not None:
            if parent == self.last[name] and parent in queue:
                queue.remove(chunk)
                queue.insert(queue.index(parent) + 1, chunk)
            else:
                self.front(parent)
        self.last[name] = chunk

    def front(self, chunk):
        queue = self.queues[self.where(chunk)]
        queue.remove(chunk)
        queue.insert(0, chunk)

    def remove(self, chunk):
        name = self.where(chunk)
        self.queues[name].remove(chunk)
        if name == "small":
            if chunk not in self.ghost:
                self.ghost.append(chunk)
            del self.ghost[:max(0, len(self.ghost) - (self.slots - self.slots // 10))]

    def victim(self, cache):
        first = "small" if 10 * len(self.queues["small"]) >= self.slots else "main"
        for name in (first, "main" if first == "small" else "small"):
            queue = self.queues[name]
            looked = 0
            at = len(queue) - 1
            while at >= 0 and looked < 64:
                chunk = queue[at]
                above = queue[at - 1] if at > 0 else None
                if name == "main" and self.reads[chunk] > 0:
                    self.reads[chunk] -= 1
                    self.front(chunk)
                elif name == "small" and self.reads[chunk] >= 2:
                    self.reads[chunk] = 0
                    queue.remove(chunk)
                    self.queues["main"].insert(0, chunk)
                elif cache.leaf(chunk):
                    return chunk
                else:
                    looked += 1
                    self.next_to_leaf(chunk, cache, queue)
                if above is None:
                    break
                at = queue.index(above)
        return None

    def next_to_leaf(self, chunk, cache, queue):
        leaf = chunk
        while cache.children[leaf] > 0:
            # The child that came last.
            leaf = [other for other in cache.parent if cache.parent[other] == leaf][-1]
        if leaf == chunk or leaf not in queue:
            self.front(chunk)
            return
        queue.remove(chunk)
        queue.insert(queue.index(leaf), chunk)
