// Python values as the C++ client's, with errors that name the argument, its value and the limit.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kvtier/client.h"
#include "kvtier/types.h"

namespace kvtier::python {

// Anything with __index__, numpy integers included. TypeError otherwise;
// kvtier.InvalidArgumentError outside of the range.
uint64_t Uint64(pybind11::handle value, const std::string& what);
uint32_t Uint32(pybind11::handle value, const std::string& what);
std::vector<uint32_t> Uint32List(pybind11::handle values, const std::string& what);

// Seconds; infinity is one. InvalidArgumentError for what is no number.
absl::Duration Seconds(double seconds, const std::string& what);

// 16 bytes; None is the zero key, no parent.
Key KeyFrom(pybind11::handle key, const std::string& what);
std::vector<Key> KeysFrom(pybind11::handle keys);
pybind11::bytes BytesOf(const Key& key);
pybind11::list ListOf(const std::vector<Key>& keys);

// Token ids, each 0 to 2^32 - 1: a one-dimensional buffer of integers (numpy arrays, array.array)
// or any iterable of them.
std::vector<uint32_t> TokensFrom(pybind11::handle tokens);

// The tuples of kvtier.types, see ModelGeometry._flat() there.
ModelGeometry GeometryFrom(const pybind11::tuple& flat);

// What an operation returned, as the Python package's own code takes it: None, an int handle, a
// list of ints (commit results), (chunks, lease, seconds) of a match, (blocks, bytes_by_pool,
// all_ok) of a get with (error or None, pool) for each block.
pybind11::object ValueOf(const Match& match);
pybind11::object ValueOf(const GetResult& result);
pybind11::object ValueOf(const std::vector<CommitResult>& results);
pybind11::object ValueOf(const CompletionValue& value);

}  // namespace kvtier::python
