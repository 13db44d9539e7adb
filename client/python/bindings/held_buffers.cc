#include "client/python/bindings/held_buffers.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/python/bindings/conversions.h"
#include "client/python/bindings/errors.h"

namespace py = pybind11;

namespace kvtier::python {
namespace {

// Calls add(chunk, plane, pieces) for each of `blocks`.
template <typename Add>
void ForEachBlock(HeldBuffers& held, py::handle blocks, HeldBuffers::Access access, Add add) {
  size_t number = 0;
  for (const py::handle block : py::iter(blocks)) {
    const std::string what = absl::StrCat("block ", number++);
    if (!py::isinstance<py::tuple>(block) || py::len(block) != 3) {
      throw py::type_error(what + " is not a tuple (chunk, plane, buffer or list of buffers)");
    }
    const auto parts = py::reinterpret_borrow<py::tuple>(block);
    const uint32_t chunk = Uint32(parts[0], what + ": its chunk");
    const uint32_t plane = Uint32(parts[1], what + ": its plane");
    const py::object memory = parts[2];
    std::vector<MutableBuffer> pieces;
    if (py::isinstance<py::list>(memory) || py::isinstance<py::tuple>(memory)) {
      for (const py::handle piece : memory) {
        pieces.push_back(held.Add(piece, access, absl::StrCat(what, ", piece ", pieces.size())));
      }
    } else {
      pieces.push_back(held.Add(memory, access, what));
    }
    add(chunk, plane, std::move(pieces));
  }
}

}  // namespace

HeldBuffers::~HeldBuffers() {
  // An exporter's own error in progress is not ours to lose.
  const py::error_scope scope;
  for (Py_buffer& view : views_) PyBuffer_Release(&view);
}

MutableBuffer HeldBuffers::Add(py::handle object, Access access, const std::string& what) {
  if (!PyObject_CheckBuffer(object.ptr())) {
    throw py::type_error(absl::StrCat(what, " is a ", Py_TYPE(object.ptr())->tp_name,
                                      ", which has no buffer (bytes, bytearray, memoryview, numpy "
                                      "arrays and the like have)"));
  }
  views_.emplace_back();
  Py_buffer& view = views_.back();
  // Asked for in a way that nearly every exporter can answer, so that the errors are ours.
  if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_STRIDED_RO) != 0) {
    views_.pop_back();
    throw py::error_already_set();
  }
  if (PyBuffer_IsContiguous(&view, 'C') == 0) {
    ThrowStatus(absl::InvalidArgumentError(absl::StrCat(
        what, " is not contiguous: give its contiguous parts as a list, or a contiguous copy")));
  }
  if (access == Access::kWrite) {
    // Some exporters say read-only to those who do not ask for more.
    PyBuffer_Release(&view);
    if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_STRIDED) != 0) {
      views_.pop_back();
      PyErr_Clear();
      ThrowStatus(absl::InvalidArgumentError(
          absl::StrCat(what, " is read-only, and blocks are fetched into it")));
    }
  }
  return MutableBuffer{view.buf, static_cast<size_t>(view.len)};
}

std::vector<BlockSource> HeldBuffers::Sources(py::handle blocks) {
  std::vector<BlockSource> sources;
  ForEachBlock(*this, blocks, Access::kRead,
               [&](uint32_t chunk, uint32_t plane, const std::vector<MutableBuffer>& pieces) {
                 BlockSource source{.chunk = chunk, .plane = plane};
                 source.pieces.reserve(pieces.size());
                 for (const MutableBuffer& piece : pieces) {
                   source.pieces.push_back({piece.data, piece.bytes});
                 }
                 sources.push_back(std::move(source));
               });
  return sources;
}

std::vector<BlockDestination> HeldBuffers::Destinations(py::handle blocks) {
  std::vector<BlockDestination> destinations;
  ForEachBlock(
      *this, blocks, Access::kWrite,
      [&](uint32_t chunk, uint32_t plane, std::vector<MutableBuffer> pieces) {
        destinations.push_back({.chunk = chunk, .plane = plane, .pieces = std::move(pieces)});
      });
  return destinations;
}

}  // namespace kvtier::python
