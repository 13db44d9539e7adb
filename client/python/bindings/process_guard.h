// What a Python process may do to a client behind its back: fork, and end.
#pragma once

#include <pybind11/pybind11.h>

namespace kvtier::python {

// Throws kvtier.FailedPreconditionError in a process that was forked from one with a client: the
// threads of the client and of gRPC are not there, and whoever called would wait for them forever.
// Throws kvtier.CancelledError once the interpreter is ending.
void CheckProcess();

// Whether this process was forked from one that had a client. What C++ objects hold is then leaked:
// their destructors would wait for threads that are not there.
bool Forked();

// Call before the first client is made: forks are noticed from then on.
void NoticeForks();

// The interpreter is ending: CheckProcess() fails from now on. Waits, for a few seconds at most,
// until no thread is inside a ReleasedGil: a thread that asks for the GIL after the end of the
// interpreter is killed, which C++ frames do not survive. Call with the GIL.
void EndCalls();

// Gives up the GIL for its lifetime; everything that may wait is called inside one.
class ReleasedGil {
 public:
  ReleasedGil();
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace kvtier::python
