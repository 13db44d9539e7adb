#include "bench/copy_figures.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "bench/copy_ceiling.h"
#include "proto/wire/block_copy.h"
#include "proto/wire/checksum.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/host_segment.h"
#include "tiering/host/machine_memory.h"

namespace kvtier::bench {
namespace {

// Ways 0 and 1 are the figures, those from kFirstLoop on the ceiling's loops.
enum Way : size_t { kPlain, kVerified, kFirstLoop };

void Shuffle(std::vector<size_t>& numbers, Rng& rng) {
  for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[rng.Below(i)]);
}

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
    ground->rng = Rng(options.seed);
    for (int64_t i = 0; i < options.region_bytes.count(); i += 8) {
      const uint64_t word = ground->rng.Next();
      std::memcpy(ground->source->address() + i, &word, sizeof(word));
    }
    for (auto* order : {&ground->source_order, &ground->destination_order}) {
      order->resize(static_cast<size_t>(options.region_bytes / options.block_bytes));
      std::iota(order->begin(), order->end(), size_t{0});
      Shuffle(*order, ground->rng);
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
  Rng rng{0};
  bool huge_pages = false;
};

// Copies one block. The checksum, where there is none: 0.
uint64_t CopyOne(size_t way, std::byte* to, const std::byte* from, size_t bytes) {
  if (way == kVerified) return wire::CopyWithChecksum(to, from, bytes);
  if (way == kPlain) {
    wire::CopyBytes(to, from, bytes);
  } else {
    CeilingLoops()[way - kFirstLoop].copy(to, from, bytes);
  }
  return 0;
}

// Seconds to copy `blocks` blocks.
double Measure(size_t way, Ground& ground, int blocks) {
  uint64_t checksums = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < blocks; ++i) {
    const auto [to, from] = ground.Next();
    checksums ^= CopyOne(way, to, from, ground.block_bytes);
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  // The checksums must not be optimised away.
  __asm__ volatile("" : : "r"(checksums));
  return taken.count();
}

// What is measured must also be right.
absl::Status CheckCopies(Ground& ground) {
  for (size_t way = 0; way < kFirstLoop + CeilingLoops().size(); ++way) {
    const auto [to, from] = ground.Next();
    const uint64_t checksum = CopyOne(way, to, from, ground.block_bytes);
    const bool right =
        way != kVerified || checksum == wire::BlockChecksum({from, ground.block_bytes});
    if (!right || std::memcmp(to, from, ground.block_bytes) != 0) {
      return absl::InternalError(absl::StrFormat("copy %d of the benchmark is wrong", way));
    }
  }
  return absl::OkStatus();
}

// Seconds of each of `ways` in each of `runs` runs, in a random order each time: what a way leaves
// behind in the caches is not always met by the same next one.
std::vector<std::vector<double>> MeasureInTurn(const std::vector<size_t>& ways, Ground& ground,
                                               int runs, int blocks) {
  std::vector<std::vector<double>> seconds(ways.size());
  std::vector<size_t> order(ways.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (int run = 0; run < runs; ++run) {
    Shuffle(order, ground.rng);
    for (const size_t at : order) seconds[at].push_back(Measure(ways[at], ground, blocks));
  }
  return seconds;
}

// The loops that may be the fastest. The others are not measured beside the figures: one that
// writes through the caches would leave its bytes there for the next to throw out.
std::vector<size_t> Contenders(Ground& ground, const CopyFigureOptions& options) {
  std::vector<size_t> loops(CeilingLoops().size());
  std::iota(loops.begin(), loops.end(), size_t{kFirstLoop});
  const auto seconds = MeasureInTurn(loops, ground, options.runs / 4 + 1, options.blocks_per_run);
  std::vector<double> medians;
  for (const std::vector<double>& samples : seconds) medians.push_back(Quantile(samples, 0.5));
  const double best = *std::min_element(medians.begin(), medians.end());
  std::vector<size_t> contenders;
  for (size_t i = 0; i < loops.size(); ++i) {
    if (medians[i] <= best * 1.05) contenders.push_back(loops[i]);
  }
  return contenders;
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

  std::vector<size_t> ways = {kPlain, kVerified};
  const std::vector<size_t> contenders = Contenders(*ground, options);
  ways.insert(ways.end(), contenders.begin(), contenders.end());
  const auto seconds = MeasureInTurn(ways, *ground, options.runs, options.blocks_per_run);
  size_t ceiling = kFirstLoop;
  for (size_t i = kFirstLoop; i < ways.size(); ++i) {
    if (Quantile(seconds[i], 0.5) < Quantile(seconds[ceiling], 0.5)) ceiling = i;
  }

  const double bytes = static_cast<double>(options.block_bytes.count()) * options.blocks_per_run;
  const auto rates = [&](size_t at) {
    std::vector<double> rates_at;  // GB/s
    for (const double run : seconds[at]) rates_at.push_back(bytes / run / 1e9);
    return rates_at;
  };
  const auto figure = [&](const char* name, Way way) {
    std::vector<double> ratios;  // to the same run's ceiling
    for (size_t run = 0; run < seconds[way].size(); ++run)
      ratios.push_back(seconds[ceiling][run] / seconds[way][run]);
    return Figure{
        .name = name,
        .value = Quantile(rates(way), 0.5),
        .p50 = Quantile(rates(way), 0.5),
        .p99 = Quantile(rates(way), 0.01),
        .unit = "GB/s",
        .ceiling = Quantile(rates(ceiling), 0.5),
        .ratio = Quantile(ratios, 0.5),
        .runs = options.runs,
        .page_bytes = ground->huge_pages ? MiB(2).count() : KiB(4).count(),
        .note = absl::StrFormat(
            "one core, cold blocks of %s out of %s, kernel %s; ceiling: the fastest of %d plain "
            "loops, here %s",
            FormatBytes(options.block_bytes), FormatBytes(options.region_bytes),
            wire::BlockCopyKernelName(), CeilingLoops().size(),
            CeilingLoops()[ways[ceiling] - kFirstLoop].description)};
  };
  return std::vector<Figure>{figure("copy_verified", kVerified), figure("copy_plain", kPlain)};
}

}  // namespace kvtier::bench
