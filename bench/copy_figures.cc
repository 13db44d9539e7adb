#include "bench/copy_figures.h"

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "bench/copy_ceiling.h"
#include "proto/wire/checksum.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/block_copy.h"
#include "tiering/host/host_segment.h"
#include "tiering/host/machine_memory.h"

namespace kvtier::bench {
namespace {

enum Way { kCeiling, kPlain, kVerified, kWays };

// Two regions like a pool's segments, and the order in which their blocks are used.
class Ground {
 public:
  static absl::StatusOr<std::unique_ptr<Ground>> Create(const CopyFigureOptions& options) {
    auto ground = std::make_unique<Ground>();
    ground->block_bytes = static_cast<size_t>(options.block_bytes.count());
    ground->huge_pages = options.region_bytes.count() % MiB(2).count() == 0 &&
                         ReadFreeHugePages(-1) >= options.region_bytes * 2;
    for (auto* region : {&ground->source, &ground->destination}) {
      KVTIER_ASSIGN_OR_RETURN(*region, HostSegment::Create({.name = "kvtier:bench",
                                                            .bytes = options.region_bytes,
                                                            .huge_pages = ground->huge_pages}));
      KVTIER_RETURN_IF_ERROR((*region)->Populate(Bytes(0), options.region_bytes));
    }
    Rng rng(options.seed);
    for (int64_t i = 0; i < options.region_bytes.count(); i += 8) {
      const uint64_t word = rng.Next();
      std::memcpy(ground->source->address() + i, &word, sizeof(word));
    }
    for (auto* order : {&ground->source_order, &ground->destination_order}) {
      order->resize(static_cast<size_t>(options.region_bytes / options.block_bytes));
      std::iota(order->begin(), order->end(), size_t{0});
      for (size_t i = order->size(); i > 1; --i) std::swap((*order)[i - 1], (*order)[rng.Below(i)]);
    }
    return ground;
  }

  // The next pair of blocks.
  std::pair<std::byte*, const std::byte*> Next() {
    const size_t at = position++ % source_order.size();
    return {destination->address() + destination_order[at] * block_bytes,
            source->address() + source_order[at] * block_bytes};
  }

  std::unique_ptr<HostSegment> source;
  std::unique_ptr<HostSegment> destination;
  std::vector<size_t> source_order;
  std::vector<size_t> destination_order;
  size_t block_bytes = 0;
  size_t position = 0;
  bool huge_pages = false;
};

// Seconds to copy `blocks` blocks.
double Measure(Way way, Ground& ground, int blocks) {
  uint64_t checksums = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < blocks; ++i) {
    const auto [to, from] = ground.Next();
    switch (way) {
      case kCeiling:
        CeilingCopy(to, from, ground.block_bytes);
        break;
      case kPlain:
        CopyBytes(to, from, ground.block_bytes);
        break;
      default:
        checksums ^= CopyWithChecksum(to, from, ground.block_bytes);
        break;
    }
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  // The checksums must not be optimised away.
  __asm__ volatile("" : : "r"(checksums));
  return taken.count();
}

// What is measured must also be right.
absl::Status CheckCopies(Ground& ground) {
  for (int way = 0; way < kWays; ++way) {
    const auto [to, from] = ground.Next();
    bool right = true;
    switch (way) {
      case kCeiling:
        CeilingCopy(to, from, ground.block_bytes);
        break;
      case kPlain:
        CopyBytes(to, from, ground.block_bytes);
        break;
      default:
        right = CopyWithChecksum(to, from, ground.block_bytes) ==
                wire::BlockChecksum({from, ground.block_bytes});
        break;
    }
    if (!right || std::memcmp(to, from, ground.block_bytes) != 0) {
      return absl::InternalError(absl::StrFormat("copy %d of the benchmark is wrong", way));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const CopyFigureOptions& options) {
  if (options.block_bytes < KiB(4) || options.block_bytes.count() % 4096 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "blocks of %d bytes, must be a multiple of 4096 above zero", options.block_bytes.count()));
  }
  if (options.region_bytes < options.block_bytes ||
      options.region_bytes.count() % options.block_bytes.count() != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a region of %d bytes, must be a multiple of the block's %d bytes",
                        options.region_bytes.count(), options.block_bytes.count()));
  }
  if (options.runs < 1 || options.blocks_per_run < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d runs of %d blocks, both must be above zero", options.runs, options.blocks_per_run));
  }
  KVTIER_ASSIGN_OR_RETURN(const MachineMemory memory, ReadMachineMemory());
  if (memory.available < options.region_bytes * 2 + MiB(256)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "two regions of %s do not fit the %s that are available (%s), less 256 MiB",
        FormatBytes(options.region_bytes), FormatBytes(memory.available), memory.limit));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Figure>> CopyFigures(const CopyFigureOptions& options) {
  KVTIER_RETURN_IF_ERROR(CheckOptions(options));
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<Ground> ground, Ground::Create(options));
  KVTIER_RETURN_IF_ERROR(CheckCopies(*ground));

  std::array<std::vector<double>, kWays> rates;   // GB/s
  std::array<std::vector<double>, kWays> ratios;  // to the same run's ceiling
  const double bytes = static_cast<double>(options.block_bytes.count()) * options.blocks_per_run;
  for (int run = 0; run < options.runs; ++run) {
    std::array<double, kWays> seconds{};
    for (int i = 0; i < kWays; ++i) {
      const int way = (run + i) % kWays;
      seconds[static_cast<size_t>(way)] =
          Measure(static_cast<Way>(way), *ground, options.blocks_per_run);
    }
    for (size_t way = 0; way < kWays; ++way) {
      rates[way].push_back(bytes / seconds[way] / 1e9);
      ratios[way].push_back(seconds[kCeiling] / seconds[way]);
    }
  }

  const auto figure = [&](const char* name, Way way) {
    return Figure{.name = name,
                  .value = Quantile(rates[way], 0.5),
                  .p50 = Quantile(rates[way], 0.5),
                  .p99 = Quantile(rates[way], 0.01),
                  .unit = "GB/s",
                  .ceiling = Quantile(rates[kCeiling], 0.5),
                  .ratio = Quantile(ratios[way], 0.5),
                  .runs = options.runs,
                  .page_bytes = ground->huge_pages ? MiB(2).count() : KiB(4).count(),
                  .note = absl::StrFormat(
                      "one core, cold blocks of %s out of %s, kernel %s; ceiling: a plain "
                      "loop of non-temporal stores",
                      FormatBytes(options.block_bytes), FormatBytes(options.region_bytes),
                      BlockCopyKernelName())};
  };
  return std::vector<Figure>{figure("copy_verified", kVerified), figure("copy_plain", kPlain)};
}

}  // namespace kvtier::bench
