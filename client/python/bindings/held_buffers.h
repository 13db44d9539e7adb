// Memory of Python objects, held while the client reads or writes it without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <deque>
#include <string>
#include <vector>

#include "kvtier/types.h"

namespace kvtier::python {

// While it is held, an exporter neither frees nor moves its memory (a bytearray refuses to be
// resized). Made and destroyed with the GIL.
class HeldBuffers {
 public:
  enum class Access { kRead, kWrite };

  HeldBuffers() = default;
  ~HeldBuffers();
  HeldBuffers(const HeldBuffers&) = delete;
  HeldBuffers& operator=(const HeldBuffers&) = delete;

  // The memory of any object with the buffer protocol. `what` names it in errors: TypeError where
  // it has none, kvtier.InvalidArgumentError where it is not contiguous, or read-only and to be
  // written.
  MutableBuffer Add(pybind11::handle object, Access access, const std::string& what);

  // Blocks as callers give them: (chunk, plane, buffer or list of buffers) each.
  std::vector<BlockSource> Sources(pybind11::handle blocks);
  std::vector<BlockDestination> Destinations(pybind11::handle blocks);

 private:
  std::deque<Py_buffer> views_;  // not moved: a view may point into itself
};

}  // namespace kvtier::python
