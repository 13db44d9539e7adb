// What a Python process may do to a client behind its back: fork, and end.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

namespace kvtier::python {

// Held by every function of the module while it runs. Its constructor throws
// kvtier.FailedPreconditionError in a process that was forked from one with a client: the threads
// of the client and of gRPC are not there, and whoever called would wait for them forever. Once the
// interpreter is ending it throws kvtier.CancelledError. With the GIL.
class Call {
 public:
  Call();
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
};

// For the interpreter's exit: lets no Call begin any more, has `close` end those that are running,
// and waits, for a few seconds at most, until they have. Python kills a thread that asks for the
// GIL after the interpreter's end, wherever it is, and C++ frames do not survive that. With the
// GIL.
void EndCalls(void (*close)());

// Whether this process was forked from one that had a client. What C++ objects hold is then leaked:
// their destructors would wait for threads that are not there.
bool Forked();
template <typename T>
void Leak(T& value) {
  new T(std::move(value));
}

// Call before the first client is made: forks are noticed from then on.
void NoticeForks();

// Gives up the GIL for its lifetime; everything that may wait is called inside one. After
// EndCalls() it keeps the GIL: then nothing has to be waited for, and a daemon thread would not get
// it back.
class ReleasedGil {
 public:
  ReleasedGil();
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_ = nullptr;
};

}  // namespace kvtier::python
