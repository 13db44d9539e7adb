#include "client/examples/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/examples/tensor_ops.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {
namespace {

using Json = nlohmann::json;

struct TypeRow {
  const char* name;
  TensorType type;
  size_t bytes;
};

constexpr TypeRow kTypes[] = {
    {"BOOL", TensorType::kBool, 1},      {"U8", TensorType::kU8, 1},
    {"I8", TensorType::kI8, 1},          {"F8_E4M3", TensorType::kF8E4M3, 1},
    {"F8_E5M2", TensorType::kF8E5M2, 1}, {"I16", TensorType::kI16, 2},
    {"U16", TensorType::kU16, 2},        {"F16", TensorType::kF16, 2},
    {"BF16", TensorType::kBf16, 2},      {"I32", TensorType::kI32, 4},
    {"U32", TensorType::kU32, 4},        {"F32", TensorType::kF32, 4},
    {"I64", TensorType::kI64, 8},        {"U64", TensorType::kU64, 8},
    {"F64", TensorType::kF64, 8},
};

// Names come from the file: long or binary ones must not flood or break a terminal.
std::string Printable(std::string_view name) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(name.substr(0, 80))),
                      name.size() > 80 ? "..." : "", "\"");
}

absl::Status Bad(std::string_view tensor, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("safetensors: tensor ", Printable(tensor), ": ", what));
}

uint64_t LoadLittleEndian64(const uint8_t* from) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | from[i];
  return value;
}

// First pass over the header: names of tensors, before a DOM is built. A DOM would keep the last of
// two equal names, which the format forbids; and nlohmann's callback parser, which sees names too,
// takes time quadratic in their number. Stops at the first fault.
class NameScan : public nlohmann::json_sax<Json> {
 public:
  bool repeated() const { return repeated_; }
  const std::string& last_name() const { return last_name_; }
  size_t names() const { return names_.size(); }

  bool start_object(size_t) override { return ++depth_, true; }
  bool end_object() override { return --depth_, true; }
  bool start_array(size_t) override { return ++depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(std::string& name) override {
    if (depth_ != 1) return true;
    last_name_ = name;
    repeated_ = !names_.insert(name).second;
    // One more for the metadata entry.
    return !repeated_ && names_.size() <= kSafetensorsTensorsMax + 1;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  size_t depth_ = 0;
  std::set<std::string> names_;
  std::string last_name_;
  bool repeated_ = false;
};

absl::StatusOr<Json> ParseHeader(std::string_view text) {
  NameScan scan;
  Json::sax_parse(text.begin(), text.end(), &scan);
  if (scan.repeated()) return Bad(scan.last_name(), "named twice in the header");
  if (scan.names() > kSafetensorsTensorsMax + 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "safetensors: more than ", kSafetensorsTensorsMax, " tensors; no more are read"));
  }
  Json header = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("safetensors: the header of ", text.size(), " bytes is not a JSON object"));
  }
  return header;
}

absl::StatusOr<const TypeRow*> ParseType(const std::string& name, const Json& entry) {
  const auto found = entry.find("dtype");
  if (found == entry.end() || !found->is_string()) return Bad(name, "dtype is missing or not text");
  const std::string& text = found->get_ref<const std::string&>();
  for (const TypeRow& row : kTypes) {
    if (text == row.name) return &row;
  }
  return Bad(name, absl::StrCat("dtype ", Printable(text), " is not known"));
}

absl::StatusOr<std::vector<size_t>> ParseCounts(const std::string& name, const Json& entry,
                                                const char* field, size_t count_max) {
  const auto found = entry.find(field);
  if (found == entry.end() || !found->is_array()) {
    return Bad(name, absl::StrCat(field, " is missing or not a list"));
  }
  if (found->size() > count_max) {
    return Bad(name, absl::StrCat(field, " has ", found->size(), " numbers; at most ", count_max));
  }
  std::vector<size_t> counts;
  for (const Json& number : *found) {
    if (!number.is_number_unsigned()) {
      return Bad(name,
                 absl::StrCat(field, "[", counts.size(), "] is not a whole number of at least 0"));
    }
    counts.push_back(static_cast<size_t>(number.get<uint64_t>()));
  }
  return counts;
}

absl::StatusOr<TensorView> ParseTensor(const std::string& name, const Json& entry,
                                       absl::Span<const uint8_t> data, size_t* begin) {
  if (!entry.is_object()) return Bad(name, "its entry is not a JSON object");
  KVTIER_ASSIGN_OR_RETURN(const TypeRow* type, ParseType(name, entry));
  TensorView view;
  view.type = type->type;
  KVTIER_ASSIGN_OR_RETURN(view.shape, ParseCounts(name, entry, "shape", kSafetensorsRankMax));
  KVTIER_ASSIGN_OR_RETURN(const std::vector<size_t> range,
                          ParseCounts(name, entry, "data_offsets", 2));
  if (range.size() != 2) {
    return Bad(name, absl::StrCat("data_offsets has ", range.size(), " numbers; expected 2"));
  }
  if (range[0] > range[1] || range[1] > data.size()) {
    return Bad(name, absl::StrCat("data_offsets ", range[0], " to ", range[1], " leave the ",
                                  data.size(), " bytes of data"));
  }
  size_t bytes = type->bytes;
  for (const size_t dimension : view.shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) {
      return Bad(name, absl::StrCat("shape [", absl::StrJoin(view.shape, ", "), "] of ", type->name,
                                    " is more than 2^64 bytes"));
    }
  }
  if (bytes != range[1] - range[0]) {
    return Bad(name,
               absl::StrCat("shape [", absl::StrJoin(view.shape, ", "), "] of ", type->name, " is ",
                            bytes, " bytes but data_offsets span ", range[1] - range[0]));
  }
  *begin = range[0];
  view.bytes = data.subspan(range[0], bytes);
  return view;
}

// Every byte of data belongs to exactly one tensor: the format demands it, and it leaves no room
// for two tensors that a later reader would believe to be independent.
absl::Status CheckCover(std::vector<std::pair<size_t, std::string>>& begins,
                        const SafetensorsFile& file, size_t data_bytes) {
  // Empty tensors first where begins are equal; names make the order total.
  std::sort(begins.begin(), begins.end(), [&](const auto& a, const auto& b) {
    const size_t a_bytes = file.at(a.second).bytes.size();
    const size_t b_bytes = file.at(b.second).bytes.size();
    return std::tie(a.first, a_bytes, a.second) < std::tie(b.first, b_bytes, b.second);
  });
  size_t end = 0;
  for (const auto& [begin, name] : begins) {
    if (begin < end) {
      return Bad(name,
                 absl::StrCat("starts at byte ", begin, ", inside a tensor that ends at ", end));
    }
    if (begin > end) {
      return Bad(name, absl::StrCat("starts at byte ", begin, "; bytes ", end, " to ", begin,
                                    " belong to no tensor"));
    }
    end = begin + file.at(name).bytes.size();
  }
  if (end != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("safetensors: tensors end at byte ", end, " of ",
                                                   data_bytes, " bytes of data"));
  }
  return absl::OkStatus();
}

}  // namespace

const char* TensorTypeName(TensorType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.name;
  }
  return "unknown";
}

absl::StatusOr<SafetensorsFile> ParseSafetensors(absl::Span<const uint8_t> file) {
  if (file.size() < 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("safetensors: ", file.size(), " bytes; the header length alone takes 8"));
  }
  const uint64_t header_bytes = LoadLittleEndian64(file.data());
  if (header_bytes > kSafetensorsHeaderBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("safetensors: header of ", header_bytes,
                                                   " bytes; at most ", kSafetensorsHeaderBytesMax,
                                                   " are read"));
  }
  if (header_bytes > file.size() - 8) {
    return absl::InvalidArgumentError(absl::StrCat("safetensors: header of ", header_bytes,
                                                   " bytes, but only ", file.size() - 8,
                                                   " follow its length"));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  KVTIER_ASSIGN_OR_RETURN(const Json header, ParseHeader(text));
  const absl::Span<const uint8_t> data = file.subspan(8 + header_bytes);
  SafetensorsFile tensors;
  std::vector<std::pair<size_t, std::string>> begins;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) return Bad(name, "metadata is not a JSON object");
      continue;
    }
    size_t begin = 0;
    KVTIER_ASSIGN_OR_RETURN(TensorView view, ParseTensor(name, entry, data, &begin));
    begins.emplace_back(begin, name);
    tensors.emplace(name, std::move(view));
  }
  KVTIER_RETURN_IF_ERROR(CheckCover(begins, tensors, data.size()));
  return tensors;
}

absl::StatusOr<SafetensorsFile> ParseSafetensors(std::string_view file) {
  return ParseSafetensors(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(file.data()), file.size()));
}

absl::StatusOr<std::vector<float>> TensorToFloats(const TensorView& tensor,
                                                  const std::vector<size_t>& shape,
                                                  std::string_view name) {
  if (tensor.shape != shape) {
    return Bad(name, absl::StrCat("shape is [", absl::StrJoin(tensor.shape, ", "),
                                  "]; the configuration needs [", absl::StrJoin(shape, ", "), "]"));
  }
  const uint8_t* bytes = tensor.bytes.data();
  // Bytes are put together by hand: they are unaligned and little-endian whatever the machine.
  const auto load16 = [&](size_t i) {
    return static_cast<uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8);
  };
  std::vector<float> floats;
  switch (tensor.type) {
    case TensorType::kF32:
      floats.resize(tensor.bytes.size() / 4);
      for (size_t i = 0; i < floats.size(); ++i) {
        const uint32_t bits = load16(2 * i) | static_cast<uint32_t>(load16(2 * i + 1)) << 16;
        floats[i] = std::bit_cast<float>(bits);
      }
      return floats;
    case TensorType::kBf16:
      floats.resize(tensor.bytes.size() / 2);
      for (size_t i = 0; i < floats.size(); ++i) floats[i] = Bf16ToFloat(load16(i));
      return floats;
    case TensorType::kF16:
      floats.resize(tensor.bytes.size() / 2);
      for (size_t i = 0; i < floats.size(); ++i) floats[i] = HalfToFloat(load16(i));
      return floats;
    default:
      return Bad(name, absl::StrCat("dtype is ", TensorTypeName(tensor.type),
                                    "; weights must be F32, BF16 or F16"));
  }
}

}  // namespace kvtier::examples
