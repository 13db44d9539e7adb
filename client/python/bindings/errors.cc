#include "client/python/bindings/errors.h"

namespace py = pybind11;

namespace kvtier::python {

py::object ErrorFor(const absl::Status& status) {
  const std::string_view message(status.message().data(), status.message().size());
  return py::module_::import("kvtier.errors")
      .attr("error_for")(static_cast<int>(status.code()), Text(message));
}

void ThrowStatus(const absl::Status& status) {
  const py::object error = ErrorFor(status);
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

py::str Text(std::string_view text) {
  PyObject* decoded =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

}  // namespace kvtier::python
