#include "tiering/share/tenant_share.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/share/memory_order.h"

namespace kvtier {
namespace {

// Writes the header, whose bytes are zero.
std::byte* WriteHeader(const TenantShare::Options& options) {
  const IndexLayout layout = IndexLayout::For(options.limits);
  auto* header = reinterpret_cast<wire::IndexHeader*>(options.memory.data());
  header->magic = wire::kIndexMagic;
  header->major = wire::kIndexMajor;
  header->minor = wire::kIndexMinor;
  header->daemon_epoch = options.daemon_epoch;
  header->hash_seed = options.hash_seed;
  header->log_offset = layout.log_offset;
  header->log_entries = layout.log_entries;
  header->buckets_offset = layout.buckets_offset;
  header->buckets_max = layout.buckets_max;
  header->overflow_offset = layout.overflow_offset;
  header->overflow_max = layout.overflow_max;
  header->rows_offset = layout.rows_offset;
  header->lines_max = layout.lines_max;
  header->total_bytes = layout.total_bytes;
  header->retire_epoch.store(wire::kFirstEpoch, kRelease);
  return options.memory.data();
}

uint16_t PlanesOf(const wire::RowHeader& row) {
  return static_cast<uint16_t>(row.shape.load(kRelaxed) >> 32);
}

}  // namespace

Bytes TenantShare::BytesFor(const IndexLimits& limits) {
  return Bytes(static_cast<int64_t>(IndexLayout::For(limits).total_bytes));
}

absl::StatusOr<std::unique_ptr<TenantShare>> TenantShare::Create(const Options& options) {
  const int64_t needed = BytesFor(options.limits).count();
  if (options.memory.size() < static_cast<uint64_t>(needed)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the memory for an index of %d chunks and %d blocks has %d bytes; it takes "
        "%d",
        options.limits.chunks_max, options.limits.blocks_max, options.memory.size(), needed));
  }
  if (reinterpret_cast<uintptr_t>(options.memory.data()) % wire::kIndexHeaderBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the memory for an index begins at %p; it has to begin at a multiple of %d",
                        static_cast<const void*>(options.memory.data()), wire::kIndexHeaderBytes));
  }
  return std::unique_ptr<TenantShare>(new TenantShare(options));
}

TenantShare::TenantShare(const Options& options)
    : memory_(options.memory),
      header_(reinterpret_cast<wire::IndexHeader*>(WriteHeader(options))),
      lines_start_(memory_.data() + header_->rows_offset),
      buckets_(memory_.data()),
      log_(reinterpret_cast<wire::RelocationEntry*>(memory_.data() + header_->log_offset),
           header_->log_entries, &header_->log_end),
      lines_(header_->lines_max) {}

uint32_t TenantShare::AddRow(const RowArgs& args) {
  const auto lines = static_cast<uint32_t>(wire::RowLines(args.planes));
  const uint32_t line = lines_.Allocate(lines);
  if (line == kNoLine) {
    ++refusals_;
    return kNoLine;
  }
  while (rows_.size() < lines_.end()) rows_[rows_.Grow(1)] = kNoRow;
  rows_[line] = args.row;
  wire::RowHeader& header = Header(line);
  // Nobody can hold these lines, so the order among the fields does not matter; what makes them
  // known (Show, or a name handed out) comes later.
  const auto generation = static_cast<uint32_t>(header.identity.load(kRelaxed) >> 32);
  header.key[0].store(args.key.low(), kRelaxed);
  header.key[1].store(args.key.high(), kRelaxed);
  header.identity.store(wire::PackIdentity(std::max(generation, 1u), args.parent + 1), kRelaxed);
  header.shape.store(
      wire::PackShape(args.token_count, args.planes, static_cast<uint16_t>(args.model.value()), 0),
      kRelaxed);
  for (uint32_t i = 0; i < args.planes; ++i) {
    const auto plane = wire::PlaneOf(&header, args.planes, i);
    plane.best.store(0, kRelaxed);
    plane.second.store(0, kRelaxed);
    plane.checksum.store(0, kRelaxed);
  }
  return line;
}

void TenantShare::SetBlock(uint32_t line, uint32_t plane, const BlockWords& words, bool log) {
  wire::RowHeader& header = Header(line);
  const uint16_t planes = PlanesOf(header);
  KVTIER_CHECK(plane < planes);
  const auto block = wire::PlaneOf(&header, planes, plane);
  // Release: a reader who finds another block's checksum with the word of the one before finds that
  // word gone when it looks again.
  if (words.best.valid()) block.checksum.store(words.checksum, kRelease);
  const bool moved = block.best.load(kRelaxed) != words.best.bits();
  if (moved) wire::PublishWord(block.best, words.best.bits());
  wire::PublishWord(block.second, words.second.bits());
  if (moved && log) {
    log_.Append(wire::Relocation{.row = NameOf(line), .plane = plane, .word = words.best});
  }
}

bool TenantShare::Show(uint32_t line) {
  if (!buckets_.Insert(line, [this](uint32_t overflow) { RetireOverflow(overflow); })) {
    ++refusals_;
    return false;
  }
  std::atomic<uint64_t>& shape = Header(line).shape;
  shape.store(shape.load(kRelaxed) | wire::kRowVisible, kRelease);
  return true;
}

void TenantShare::Hide(uint32_t line) {
  std::atomic<uint64_t>& shape = Header(line).shape;
  if ((shape.load(kRelaxed) & wire::kRowVisible) == 0) return;
  KVTIER_CHECK(buckets_.Erase(line, [this](uint32_t overflow) { RetireOverflow(overflow); }));
  shape.store(shape.load(kRelaxed) & ~wire::kRowVisible, kRelease);
}

void TenantShare::RemoveRow(uint32_t line) {
  wire::RowHeader& header = Header(line);
  KVTIER_CHECK(rows_[line] != kNoRow && (header.shape.load(kRelaxed) & wire::kRowVisible) == 0);
  rows_[line] = kNoRow;
  // Whoever enters a section from now on finds that the name is another's; whoever is in one keeps
  // the lines as they are. Zero stays out: a name is never zero.
  auto generation = static_cast<uint32_t>(header.identity.load(kRelaxed) >> 32) + 1;
  header.identity.store(wire::PackIdentity(std::max(generation, 1u), 0), kRelease);
  const auto lines = static_cast<uint32_t>(wire::RowLines(PlanesOf(header)));
  retired_.Retire(header_->retire_epoch, {line, Part::kRow, lines});
}

void TenantShare::Reclaim(uint64_t oldest) {
  retired_.TakeFree(oldest, [this](const Retired& retired) {
    if (retired.part == Part::kRow) {
      lines_.Free(retired.number, retired.lines);
    } else {
      buckets_.FreeOverflow(retired.number);
    }
  });
}

Bytes TenantShare::metadata_bytes() const {
  const uint64_t shared = wire::kIndexHeaderBytes +
                          header_->log_entries * sizeof(wire::RelocationEntry) +
                          (buckets_.bucket_count() + buckets_.overflow_used()) * wire::kLineBytes +
                          lines_.end() * wire::kLineBytes;
  return Bytes(static_cast<int64_t>(shared)) + rows_.metadata_bytes();
}

}  // namespace kvtier
