#include "tiering/bound/instance_file.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/bound/byte_cursor.h"

namespace kvtier::bound {
namespace {

constexpr std::string_view kInstanceMagic = "KVTIERPI";
constexpr uint32_t kInstanceVersion = 1;
constexpr size_t kPieceBytes = 1 << 16;

// Collects small fields so that the sink sees large pieces.
class Pieces {
 public:
  explicit Pieces(absl::FunctionRef<void(std::string_view)> sink) : sink_(sink) {}

  void Text(std::string_view text) {
    pending_.append(text);
    if (pending_.size() >= kPieceBytes) Flush();
  }
  template <typename T>
  void Value(T value) {
    Text({reinterpret_cast<const char*>(&value), sizeof(T)});
  }
  template <typename T>
  void Array(const std::vector<T>& values) {
    Flush();
    if (!values.empty())
      sink_({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
  }
  void Flush() {
    if (!pending_.empty()) sink_(pending_);
    pending_.clear();
  }

 private:
  absl::FunctionRef<void(std::string_view)> sink_;
  std::string pending_;
};

// Calls visit(accesses, from, to) in the order of the file.
template <typename Visit>
void ForEachList(StateIndex states, size_t accesses_max, const Visit& visit) {
  for (size_t accesses = 0; accesses <= accesses_max; ++accesses) {
    for (StateIndex from = 0; from < states; ++from) {
      for (StateIndex to = 0; to < states; ++to) visit(accesses, from, to);
    }
  }
}

void WriteTable(const OptionTable& table, size_t resources, Pieces& out) {
  out.Value(static_cast<uint32_t>(table.state_count()));
  out.Value(static_cast<uint32_t>(table.accesses_max()));
  for (const TierSet state : table.states()) out.Value(state);
  ForEachList(table.state_count(), table.accesses_max(),
              [&](size_t accesses, StateIndex from, StateIndex to) {
                const absl::Span<const Option> options = table.Options(accesses, from, to);
                out.Value(static_cast<uint32_t>(options.size()));
                for (const Option& option : options) {
                  for (size_t r = 0; r < resources; ++r) out.Value(option.per_byte[r]);
                  out.Value(option.recomputes);
                }
              });
}

void ReadList(ByteCursor& in, size_t resources, size_t accesses, StateIndex from, StateIndex to,
              OptionTable& table) {
  const auto count = in.Take<uint32_t>("options of a list");
  if (count > kOptionsMax) in.Fail(absl::StrFormat("a list of %d options", count));
  for (uint32_t i = 0; i < count && in.status().ok(); ++i) {
    Option option;
    for (size_t r = 0; r < resources; ++r) option.per_byte[r] = in.Take<uint16_t>("an option");
    option.recomputes = in.Take<uint16_t>("an option");
    if (!in.status().ok()) return;
    table.Add(accesses, from, to, option);
    if (table.Options(accesses, from, to).size() != i + 1) in.Fail("an option a second time");
  }
}

OptionTable ReadTable(ByteCursor& in, size_t resources) {
  const auto states = in.Take<uint32_t>("states of a table");
  const auto accesses_max = in.Take<uint32_t>("accesses of a table");
  if (!in.status().ok()) return {};
  if (states == 0 || states > kStatesMax) {
    in.Fail(absl::StrFormat("a table of %d states; it can have 1 to %d", states, kStatesMax));
    return {};
  }
  if (accesses_max > kAccessesMax) {
    in.Fail(absl::StrFormat("a table for %d accesses in a phase; the limit is %d", accesses_max,
                            kAccessesMax));
    return {};
  }
  const auto sets = in.TakeArray<TierSet>(states, "states");
  // Each list takes four bytes of the file at least.
  if (!in.Has((uint64_t{accesses_max} + 1) * states * states, sizeof(uint32_t), "lists")) return {};
  OptionTable table(sets, accesses_max);
  ForEachList(table.state_count(), accesses_max,
              [&](size_t accesses, StateIndex from, StateIndex to) {
                ReadList(in, resources, accesses, from, to, table);
              });
  return table;
}

std::string ReadName(ByteCursor& in) {
  const auto length = in.Take<uint32_t>("length of a name");
  if (length > kNameBytesMax)
    in.Fail(absl::StrFormat("a name of %d bytes; the limit is %d", length, kNameBytesMax));
  return in.TakeText(length, "bytes of a name");
}

// The machine, the tables and the classes; `count` of each stands in the header.
struct HeaderCounts {
  uint32_t tiers, resources, tables, classes;
};

void ReadParts(ByteCursor& in, const HeaderCounts& counts, Instance& instance) {
  for (uint32_t i = 0; i < counts.tiers && in.status().ok(); ++i) {
    const auto capacity = in.Take<uint64_t>("a tier's capacity");
    instance.tiers.push_back({.name = ReadName(in), .capacity_bytes = capacity});
  }
  for (uint32_t i = 0; i < counts.resources && in.status().ok(); ++i) {
    const auto rate = in.Take<uint64_t>("a resource's rate");
    instance.resources.push_back({.name = ReadName(in), .units_per_second = rate});
  }
  for (uint32_t i = 0; i < counts.tables && in.status().ok(); ++i)
    instance.tables.push_back(ReadTable(in, counts.resources));
  constexpr size_t kClassBytes = 24;
  if (!in.Has(counts.classes, kClassBytes, "classes")) return;
  instance.classes.reserve(counts.classes);
  for (uint32_t i = 0; i < counts.classes; ++i) {
    BlockClass block_class;
    block_class.bytes = in.Take<uint64_t>("a class");
    block_class.recompute_units = in.Take<uint64_t>("a class");
    const auto table = in.Take<uint32_t>("a class");
    const auto starts = in.Take<uint32_t>("a class");
    if (table >= kTablesMax || starts > 0xffff)
      return in.Fail(
          absl::StrFormat("class %d has table %d and start states %#x", i, table, starts));
    block_class.table = static_cast<uint8_t>(table);
    block_class.start_states = static_cast<StateSet>(starts);
    instance.classes.push_back(block_class);
  }
}

}  // namespace

void WriteInstance(const Instance& instance, absl::FunctionRef<void(std::string_view)> sink) {
  Pieces out(sink);
  out.Text(kInstanceMagic);
  for (const size_t value :
       {size_t{kInstanceVersion}, instance.tiers.size(), instance.resources.size(),
        size_t{instance.compute_resource}, instance.tables.size(), instance.classes.size(),
        size_t{instance.phase_count}})
    out.Value(static_cast<uint32_t>(value));
  out.Value(uint64_t{instance.block_count()});
  out.Value(uint64_t{instance.access_count()});
  for (const Tier& tier : instance.tiers) {
    out.Value(tier.capacity_bytes);
    out.Value(static_cast<uint32_t>(tier.name.size()));
    out.Text(tier.name);
  }
  for (const Resource& resource : instance.resources) {
    out.Value(resource.units_per_second);
    out.Value(static_cast<uint32_t>(resource.name.size()));
    out.Text(resource.name);
  }
  for (const OptionTable& table : instance.tables)
    WriteTable(table, instance.resources.size(), out);
  for (const BlockClass& block_class : instance.classes) {
    out.Value(block_class.bytes);
    out.Value(block_class.recompute_units);
    out.Value(uint32_t{block_class.table});
    out.Value(uint32_t{block_class.start_states});
  }
  out.Array(instance.base_load);
  out.Array(instance.block_class);
  out.Array(instance.birth);
  out.Array(instance.death);
  out.Array(instance.first_access);
  out.Array(instance.access_phase);
  out.Flush();
}

std::string InstanceBytes(const Instance& instance) {
  std::string bytes;
  WriteInstance(instance, [&bytes](std::string_view piece) { bytes.append(piece); });
  return bytes;
}

absl::StatusOr<Instance> ReadInstance(std::string_view bytes) {
  ByteCursor in(bytes);
  if (in.TakeText(kInstanceMagic.size(), "bytes of the file's kind") != kInstanceMagic)
    return absl::InvalidArgumentError("at byte 0: this is no instance file");
  const auto version = in.Take<uint32_t>("version");
  if (in.status().ok() && version != kInstanceVersion)
    return absl::InvalidArgumentError(
        absl::StrFormat("at byte 8: version %d of the instance file; this program reads %d",
                        version, kInstanceVersion));
  Instance instance;
  HeaderCounts counts{};
  counts.tiers = in.Take<uint32_t>("tiers");
  counts.resources = in.Take<uint32_t>("resources");
  const auto compute = in.Take<uint32_t>("compute resource");
  counts.tables = in.Take<uint32_t>("tables");
  counts.classes = in.Take<uint32_t>("classes");
  instance.phase_count = in.Take<uint32_t>("phases");
  const auto blocks = in.Take<uint64_t>("blocks");
  const auto accesses = in.Take<uint64_t>("accesses");
  if (counts.tiers > kTiersMax || counts.resources > kResourcesMax || counts.tables > kTablesMax ||
      compute > kNoResource || instance.phase_count > kPhasesMax || blocks > kBlocksMax)
    in.Fail(absl::StrFormat(
        "%d tiers, %d resources, compute resource %d, %d tables, %d phases or "
        "%d blocks are more than there can be",
        counts.tiers, counts.resources, compute, counts.tables, instance.phase_count, blocks));
  if (!in.status().ok()) return in.status();
  instance.compute_resource = static_cast<uint8_t>(compute);
  ReadParts(in, counts, instance);
  instance.base_load =
      in.TakeArray<uint64_t>(uint64_t{instance.phase_count} * counts.resources, "base loads");
  instance.block_class = in.TakeArray<uint32_t>(blocks, "blocks' classes");
  instance.birth = in.TakeArray<uint32_t>(blocks, "births");
  instance.death = in.TakeArray<uint32_t>(blocks, "deaths");
  instance.first_access = in.TakeArray<uint64_t>(blocks + 1, "first accesses");
  instance.access_phase = in.TakeArray<uint32_t>(accesses, "accesses");
  if (in.left() != 0) in.Fail(absl::StrFormat("%d bytes more than there should be", in.left()));
  if (!in.status().ok()) return in.status();
  const absl::Status status = Check(instance);
  if (!status.ok()) return status;
  return instance;
}

wire::Sha256Digest InstanceDigest(const Instance& instance) {
  wire::Sha256 hash;
  WriteInstance(instance,
                [&hash](std::string_view piece) { hash.Raw(piece.data(), piece.size()); });
  return hash.Finish();
}

}  // namespace kvtier::bound
