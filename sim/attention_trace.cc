#include "sim/attention_trace.h"

#include <cstdio>
#include <cstring>
#include <type_traits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/checksum.h"
#include "sim/input_file.h"
#include "sim/printable.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kAccessesAt = 8 + 4 * 4 + 8;  // offset of the number of accesses

template <typename Number>
void Append(Number number, std::string& bytes) {
  for (size_t i = 0; i < sizeof(number); ++i)
    bytes.push_back(static_cast<char>(static_cast<uint64_t>(number) >> (8 * i)));
}

void AppendVarint(uint64_t number, std::string& bytes) {
  for (; number >= 0x80; number >>= 7) bytes.push_back(static_cast<char>(number | 0x80));
  bytes.push_back(static_cast<char>(number));
}

uint64_t Checksum(std::string_view bytes) {
  return wire::BlockChecksum({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
}

// Takes numbers off the front; an end that comes too early makes them zero and ok() false.
class Cursor {
 public:
  Cursor(std::string_view bytes, const std::string& place) : bytes_(bytes), place_(place) {}

  size_t offset() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }
  bool ok() const { return ok_; }

  std::string_view Take(size_t count) {
    if (count > left()) {
      ok_ = false;
      at_ = bytes_.size();
      return {};
    }
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }
  template <typename Number>
  Number Fixed() {
    uint64_t number = 0;
    const std::string_view bytes = Take(sizeof(Number));
    for (size_t i = 0; i < bytes.size(); ++i)
      number |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    return static_cast<Number>(number);
  }
  // At most 5 bytes; more than 32 bits are an error.
  uint32_t Varint() {
    uint64_t number = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      if (at_ == bytes_.size()) break;
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      number |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) {
        if (number > 0xffffffff) break;
        return static_cast<uint32_t>(number);
      }
    }
    ok_ = false;
    return 0;
  }
  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(place_, ":", at_, ": ", what));
  }

 private:
  std::string_view bytes_;
  const std::string& place_;
  size_t at_ = 0;
  bool ok_ = true;
};

absl::Status CheckRange(const std::string& place, const char* field, uint64_t value, uint64_t min,
                        uint64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": ", field, " is ", value, "; ", min, " to ", max, " is needed"));
}

absl::Status CheckShown(const std::string& place, const char* what, const std::string& text,
                        size_t bytes_max) {
  if (text.size() <= bytes_max && IsPrintable(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": ", what, " is \"", absl::CHexEscape(text.substr(0, kNameBytesMax)),
                   "\"; at most ", bytes_max, " printable ASCII characters are needed"));
}

class Decoder {
 public:
  Decoder(std::string_view bytes, const std::string& place)
      : bytes_(bytes), place_(place), cursor_(bytes, place) {}

  absl::StatusOr<AttentionTrace> Decode() {
    KVTIER_RETURN_IF_ERROR(ReadHeader());
    KVTIER_RETURN_IF_ERROR(CheckGeometry(trace_.geometry, place_));
    // Every list takes a byte at least, every access two: what is allocated below is not more than
    // a small multiple of the file.
    const AttentionGeometry& geometry = trace_.geometry;
    const uint64_t lists = uint64_t{geometry.steps} * geometry.planes;
    if (accesses_ > kAttentionAccessesMax)
      return cursor_.Error(
          absl::StrCat("there are ", accesses_, " accesses; the limit is ", kAttentionAccessesMax));
    if (cursor_.left() < lists || (cursor_.left() - lists) / 2 < accesses_) {
      return cursor_.Error(absl::StrCat(cursor_.left(), " bytes are left, too few for ",
                                        geometry.steps, " steps of ", geometry.planes,
                                        " planes with ", accesses_, " accesses"));
    }
    trace_.first.reserve(lists + 1);
    trace_.first.push_back(0);
    trace_.blocks.reserve(accesses_);
    trace_.mass.reserve(accesses_);
    for (uint32_t step = 0; step < geometry.steps; ++step) {
      for (uint32_t plane = 0; plane < geometry.planes; ++plane)
        KVTIER_RETURN_IF_ERROR(ReadList(step));
    }
    KVTIER_RETURN_IF_ERROR(ReadEnd());
    return std::move(trace_);
  }

 private:
  absl::Status ReadHeader() {
    if (cursor_.Take(kAttentionMagic.size()) != kAttentionMagic)
      return absl::InvalidArgumentError(absl::StrCat(place_, ":0: is no attention trace"));
    const auto version = cursor_.Fixed<uint32_t>();
    if (version != kVersion) {
      return cursor_.Error(
          absl::StrCat("is of version ", version, "; this program reads version ", kVersion));
    }
    AttentionGeometry& geometry = trace_.geometry;
    geometry.planes = cursor_.Fixed<uint32_t>();
    geometry.block_tokens = cursor_.Fixed<uint32_t>();
    geometry.steps = cursor_.Fixed<uint32_t>();
    geometry.prompt_tokens = cursor_.Fixed<uint64_t>();
    accesses_ = cursor_.Fixed<uint64_t>();
    geometry.model = cursor_.Take(cursor_.Fixed<uint16_t>());
    geometry.provenance = cursor_.Take(cursor_.Fixed<uint16_t>());
    return cursor_.ok() ? absl::OkStatus() : cursor_.Error("ends within its header");
  }

  absl::Status ReadList(uint32_t step) {
    const uint32_t whole = trace_.geometry.BlocksAt(step);
    const uint32_t count = cursor_.Varint();
    if (count > whole || count > accesses_ - trace_.blocks.size()) {
      return cursor_.Error(absl::StrCat("step ", step, " reads ", count, " blocks of a plane; ",
                                        whole, " are whole, and ", accesses_ - trace_.blocks.size(),
                                        " accesses are left"));
    }
    uint64_t next = 0;
    for (uint32_t i = 0; i < count; ++i) {
      next += cursor_.Varint();
      if (!cursor_.ok()) return CutShort(step);
      if (next >= whole) {
        return cursor_.Error(absl::StrCat("step ", step, " reads block ", next,
                                          " of a plane; only ", whole, " are whole by then"));
      }
      trace_.blocks.push_back(static_cast<uint32_t>(next++));
    }
    const std::string_view mass = cursor_.Take(count);
    for (const char byte : mass) trace_.mass.push_back(static_cast<uint8_t>(byte));
    trace_.first.push_back(trace_.blocks.size());
    return cursor_.ok() ? absl::OkStatus() : CutShort(step);
  }
  absl::Status CutShort(uint32_t step) const {
    return cursor_.Error(
        absl::StrCat("ends, or has a number of more than 32 bits, within step ", step));
  }

  absl::Status ReadEnd() {
    if (trace_.blocks.size() != accesses_) {
      return cursor_.Error(absl::StrCat("there are ", trace_.blocks.size(),
                                        " accesses, and the header says ", accesses_));
    }
    const std::string_view all = bytes_.substr(0, cursor_.offset());
    const auto checksum = cursor_.Fixed<uint64_t>();
    if (!cursor_.ok()) return cursor_.Error("ends within its checksum");
    if (cursor_.left() > 0)
      return cursor_.Error(absl::StrCat(cursor_.left(), " bytes behind the end"));
    if (checksum != Checksum(all)) return cursor_.Error("the checksum is not that of the bytes");
    return absl::OkStatus();
  }

  std::string_view bytes_;
  const std::string& place_;
  Cursor cursor_;
  uint64_t accesses_ = 0;
  AttentionTrace trace_;
};

}  // namespace

absl::Status CheckGeometry(const AttentionGeometry& geometry, const std::string& place) {
  KVTIER_RETURN_IF_ERROR(CheckRange(place, "planes", geometry.planes, 1, kPlanesMax));
  KVTIER_RETURN_IF_ERROR(CheckRange(place, "block_tokens", geometry.block_tokens, 1, 1 << 16));
  KVTIER_RETURN_IF_ERROR(CheckRange(place, "steps", geometry.steps, 1, kStepsMax));
  KVTIER_RETURN_IF_ERROR(
      CheckRange(place, "prompt_tokens", geometry.prompt_tokens, 0, 1'000'000'000));
  const uint64_t blocks = uint64_t{geometry.planes} * geometry.BlocksAt(geometry.steps);
  KVTIER_RETURN_IF_ERROR(CheckRange(place, "number of blocks", blocks, 1, kAttentionBlocksMax));
  KVTIER_RETURN_IF_ERROR(CheckShown(place, "the model's name", geometry.model, kNameBytesMax));
  return CheckShown(place, "the provenance", geometry.provenance, kAttentionTextBytesMax);
}

AttentionTraceWriter::AttentionTraceWriter(const AttentionGeometry& geometry)
    : bytes_(kAttentionMagic) {
  Append(kVersion, bytes_);
  Append(geometry.planes, bytes_);
  Append(geometry.block_tokens, bytes_);
  Append(geometry.steps, bytes_);
  Append(geometry.prompt_tokens, bytes_);
  KVTIER_CHECK(bytes_.size() == kAccessesAt);
  Append(accesses_, bytes_);
  for (const std::string* text : {&geometry.model, &geometry.provenance}) {
    Append(static_cast<uint16_t>(text->size()), bytes_);
    bytes_.append(*text);
  }
}

void AttentionTraceWriter::Add(absl::Span<const uint32_t> blocks, absl::Span<const uint8_t> mass) {
  KVTIER_CHECK(blocks.size() == mass.size());
  AppendVarint(blocks.size(), bytes_);
  uint32_t next = 0;
  for (const uint32_t block : blocks) {
    AppendVarint(block - next, bytes_);
    next = block + 1;
  }
  bytes_.append(reinterpret_cast<const char*>(mass.data()), mass.size());
  accesses_ += blocks.size();
}

std::string AttentionTraceWriter::Finish() {
  std::string accesses;
  Append(accesses_, accesses);
  bytes_.replace(kAccessesAt, accesses.size(), accesses);
  Append(Checksum(bytes_), bytes_);
  return std::move(bytes_);
}

absl::StatusOr<AttentionTrace> DecodeAttentionTrace(std::string_view bytes,
                                                    const std::string& place) {
  return Decoder(bytes, place).Decode();
}

absl::StatusOr<AttentionTrace> ReadAttentionTrace(const std::string& path) {
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes, ReadInputFile(path, kAttentionFileBytesMax));
  return DecodeAttentionTrace(bytes, path);
}

bool IsAttentionTrace(const std::string& path) {
  const absl::StatusOr<InputFile> file = OpenInputFile(path);
  char start[kAttentionMagic.size()];
  return file.ok() && std::fread(start, sizeof(start), 1, file->get()) == 1 &&
         std::string_view(start, sizeof(start)) == kAttentionMagic;
}

}  // namespace kvtier::sim
