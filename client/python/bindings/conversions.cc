#include "client/python/bindings/conversions.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/python/bindings/errors.h"

namespace py = pybind11;

namespace kvtier::python {
namespace {

uint64_t UnsignedBelow(py::handle value, uint64_t max, const std::string& what) {
  const py::object number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!number) throw py::error_already_set();
  const unsigned long long found = PyLong_AsUnsignedLongLong(number.ptr());
  const bool failed = found == std::numeric_limits<unsigned long long>::max() && PyErr_Occurred();
  if (failed) PyErr_Clear();
  if (failed || found > max) {
    ThrowStatus(absl::InvalidArgumentError(absl::StrCat(what, " is ", std::string(py::str(number)),
                                                        ", it must be within 0 to ", max)));
  }
  return found;
}

// The elements of a buffer of integers; false if it is none.
template <typename T>
bool AppendTokens(const Py_buffer& view, std::vector<uint32_t>& tokens) {
  const auto count = static_cast<size_t>(view.len) / sizeof(T);
  tokens.resize(count);
  const char* from = static_cast<const char*>(view.buf);
  for (size_t i = 0; i < count; ++i) {
    T token;
    std::memcpy(&token, from + i * sizeof(T), sizeof(T));
    if (!std::in_range<uint32_t>(token)) {
      ThrowStatus(absl::InvalidArgumentError(
          absl::StrCat("token ", i, " is ", token, ", it must be within 0 to 4294967295")));
    }
    tokens[i] = static_cast<uint32_t>(token);
  }
  return true;
}

bool AppendTokens(const Py_buffer& view, std::vector<uint32_t>& tokens) {
  const char* format = view.format == nullptr ? "B" : view.format;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (std::strlen(format) != 1) return false;
  const bool is_signed = std::strchr("ilq", *format) != nullptr;
  if (!is_signed && std::strchr("ILQ", *format) == nullptr) return false;
  if (view.itemsize == 4) {
    return is_signed ? AppendTokens<int32_t>(view, tokens) : AppendTokens<uint32_t>(view, tokens);
  }
  if (view.itemsize == 8) {
    return is_signed ? AppendTokens<int64_t>(view, tokens) : AppendTokens<uint64_t>(view, tokens);
  }
  return false;
}

}  // namespace

uint64_t Uint64(py::handle value, const std::string& what) {
  return UnsignedBelow(value, std::numeric_limits<uint64_t>::max(), what);
}
uint32_t Uint32(py::handle value, const std::string& what) {
  return static_cast<uint32_t>(UnsignedBelow(value, std::numeric_limits<uint32_t>::max(), what));
}
std::vector<uint32_t> Uint32List(py::handle values, const std::string& what) {
  std::vector<uint32_t> numbers;
  for (const py::handle value : py::iter(values)) numbers.push_back(Uint32(value, what));
  return numbers;
}

absl::Duration Seconds(double seconds, const std::string& what) {
  if (std::isnan(seconds)) {
    ThrowStatus(absl::InvalidArgumentError(absl::StrCat(what, " is not a number of seconds")));
  }
  return absl::Seconds(seconds);
}

Key KeyFrom(py::handle key, const std::string& what) {
  Key out{};
  if (key.is_none()) return out;
  if (!PyBytes_Check(key.ptr())) {
    throw py::type_error(
        absl::StrCat(what, " is a ", Py_TYPE(key.ptr())->tp_name, ", keys are bytes"));
  }
  const auto bytes = static_cast<size_t>(PyBytes_GET_SIZE(key.ptr()));
  if (bytes != out.size()) {
    ThrowStatus(absl::InvalidArgumentError(
        absl::StrCat(what, " has ", bytes, " bytes, keys have ", out.size())));
  }
  std::memcpy(out.data(), PyBytes_AS_STRING(key.ptr()), out.size());
  return out;
}

std::vector<Key> KeysFrom(py::handle keys) {
  if (PyBytes_Check(keys.ptr())) throw py::type_error("a list of keys is wanted, not one key");
  std::vector<Key> out;
  for (const py::handle key : py::iter(keys)) {
    out.push_back(KeyFrom(key, absl::StrCat("key ", out.size())));
  }
  return out;
}

py::bytes BytesOf(const Key& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

py::list ListOf(const std::vector<Key>& keys) {
  py::list list(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) list[i] = BytesOf(keys[i]);
  return list;
}

std::vector<uint32_t> TokensFrom(py::handle tokens) {
  std::vector<uint32_t> out;
  if (PyObject_CheckBuffer(tokens.ptr())) {
    Py_buffer view;
    if (PyObject_GetBuffer(tokens.ptr(), &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) == 0) {
      struct Release {
        Py_buffer& view;
        ~Release() { PyBuffer_Release(&view); }
      } const release{view};
      if (view.ndim == 1 && AppendTokens(view, out)) return out;
      throw py::type_error(absl::StrCat(
          "tokens in a buffer are a one-dimensional array of 32- or 64-bit integers; this has ",
          view.ndim, " dimensions and the format '", view.format == nullptr ? "B" : view.format,
          "'"));
    }
    // Strided arrays and the like are read element by element.
    PyErr_Clear();
  }
  for (const py::handle token : py::iter(tokens)) {
    out.push_back(Uint32(token, absl::StrCat("token ", out.size())));
  }
  return out;
}

ModelGeometry GeometryFrom(const py::tuple& flat) {
  ModelGeometry geometry;
  geometry.name = flat[0].cast<std::string>();
  geometry.revision = flat[1].cast<std::string>();
  geometry.data_type = flat[2].cast<std::string>();
  geometry.layout_version = flat[3].cast<std::string>();
  geometry.salt = flat[4].cast<std::string>();
  geometry.chunk_tokens = Uint32(flat[5], "chunk_tokens");
  for (const py::handle item : flat[6]) {
    const auto parts = item.cast<py::tuple>();
    PlaneGeometry plane;
    plane.name = parts[0].cast<std::string>();
    const std::string what = absl::StrCat("plane ", plane.name, ": its ");
    plane.layer = Uint32(parts[1], what + "layer");
    plane.type = static_cast<PlaneType>(Uint32(parts[2], what + "type"));
    plane.rank = parts[3].cast<int>();
    plane.bytes_per_chunk = Uint64(parts[4], what + "bytes_per_chunk");
    plane.required = parts[5].cast<bool>();
    plane.window_tokens = Uint32(parts[6], what + "window_tokens");
    geometry.planes.push_back(std::move(plane));
  }
  for (const py::handle item : flat[7]) {
    const auto parts = item.cast<py::tuple>();
    geometry.recompute.push_back(
        {Uint64(parts[0], "recompute: context_tokens"), parts[1].cast<double>()});
  }
  return geometry;
}

py::object ValueOf(const Match& match) {
  return py::make_tuple(match.chunks, match.lease, absl::ToDoubleSeconds(match.lease_ttl));
}

py::object ValueOf(const GetResult& result) {
  py::list blocks(result.blocks.size());
  for (size_t i = 0; i < result.blocks.size(); ++i) {
    const BlockResult& block = result.blocks[i];
    py::object error = block.status.ok() ? py::none() : ErrorFor(block.status);
    blocks[i] = py::make_tuple(std::move(error), Text(block.pool));
  }
  py::dict bytes_by_pool;
  for (const auto& [pool, bytes] : result.bytes_by_pool) bytes_by_pool[Text(pool)] = bytes;
  return py::make_tuple(std::move(blocks), std::move(bytes_by_pool), result.all_ok);
}

py::object ValueOf(const std::vector<CommitResult>& results) {
  py::list list(results.size());
  for (size_t i = 0; i < results.size(); ++i) list[i] = static_cast<int>(results[i]);
  return list;
}

py::object ValueOf(const CompletionValue& value) {
  struct Visitor {
    py::object operator()(std::monostate) const { return py::none(); }
    py::object operator()(ReservationHandle handle) const { return py::int_(handle); }
    py::object operator()(uint32_t count) const { return py::int_(count); }
    py::object operator()(absl::Duration time) const {
      return py::float_(absl::ToDoubleSeconds(time));
    }
    py::object operator()(const Match& match) const { return ValueOf(match); }
    py::object operator()(const GetResult& result) const { return ValueOf(result); }
    py::object operator()(const std::vector<CommitResult>& results) const {
      return ValueOf(results);
    }
  };
  return std::visit(Visitor{}, value);
}

}  // namespace kvtier::python
