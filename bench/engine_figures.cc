#include "bench/engine_figures.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/engine_workload.h"
#include "bench/pointer_chase.h"
#include "bench/samples.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::bench {
namespace {

constexpr double kMetadataLimit = 96;
constexpr int kMissesPerOperation = 6;
// Enough for the leases to reach the number that the workload keeps.
constexpr uint32_t kWarmUpBatches = 20;
constexpr uint32_t kReportRunsMin = 10;
constexpr uint64_t kSmallerBlocks = 1'000'000;  // what the metadata note compares with

uint64_t ResidentBytes() {
  // What the allocator keeps for itself is not the engine's.
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  uint64_t total_pages = 0, resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// An engine full of blocks that has run its workload for a while, and so holds leases.
struct Loaded {
  std::unique_ptr<EngineWorkload> load;
  uint64_t resident_bytes = 0;  // what it made the process grow by
  uint64_t blocks = 0;
  uint64_t metadata_bytes = 0;  // as the engine counts them

  double resident_bytes_per_block() const {
    return static_cast<double>(resident_bytes) / static_cast<double>(blocks);
  }
};

absl::StatusOr<Loaded> LoadEngine(const EngineFigureOptions& options) {
  Loaded loaded;
  const uint64_t resident_before = ResidentBytes();
  KVTIER_ASSIGN_OR_RETURN(loaded.load, EngineWorkload::Create({.blocks = options.blocks,
                                                               .planes = options.planes,
                                                               .shared = options.shared,
                                                               .seed = options.seed}));
  KVTIER_RETURN_IF_ERROR(loaded.load->Fill());
  for (uint32_t batch = 0; batch < kWarmUpBatches + options.batches / 10; ++batch)
    KVTIER_RETURN_IF_ERROR(loaded.load->RunBatch().status());
  loaded.resident_bytes = ResidentBytes() - resident_before;
  loaded.blocks = loaded.load->engine().Totals(std::nullopt).blocks;
  loaded.metadata_bytes = static_cast<uint64_t>(loaded.load->engine().MetadataBytes().count());
  return loaded;
}

// Resident bytes a block of an engine of its own, in a process of its own: one engine would grow
// into what another has freed, and seem smaller. Only while the process has no other threads.
absl::StatusOr<double> MeasureApart(EngineFigureOptions options) {
  int ends[2];
  if (::pipe(ends) != 0) return absl::InternalError("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    const absl::StatusOr<Loaded> loaded = LoadEngine(options);
    const double value = loaded.ok() ? loaded->resident_bytes_per_block() : 0;
    const bool written = ::write(ends[1], &value, sizeof(value)) == sizeof(value);
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  double value = 0;
  const bool read_all = child > 0 && ::read(ends[0], &value, sizeof(value)) == sizeof(value);
  ::close(ends[0]);
  if (child > 0) ::waitpid(child, nullptr, 0);
  if (!read_all || value <= 0) {
    return absl::InternalError(
        absl::StrCat("an engine of ", options.blocks, " blocks could not be measured"));
  }
  return value;
}

absl::StatusOr<Figure> ReportFigure(EngineWorkload& load, EngineWorkload::Reports kind,
                                    PointerChase& chase, const EngineFigureOptions& options) {
  const bool prefixes = kind == EngineWorkload::Reports::kPrefixes;
  Samples samples;
  const uint32_t runs = std::max(kReportRunsMin, options.batches / 10);
  // Drawn in advance: what was looked up for the first ones has left the cache when they come.
  KVTIER_RETURN_IF_ERROR(load.PrepareReports(kind, runs));
  for (uint32_t run = 0; run < runs; ++run) {
    KVTIER_ASSIGN_OR_RETURN(const double ns, load.RunReports());
    samples.Add(ns, chase.MeasureNs(1000));
  }
  Figure figure = samples.ToFigure(
      prefixes ? "engine_report" : "engine_report_random",
      absl::StrFormat(
          "a Tick with %d reports in a client's ring, by their number, %s; ceiling: a dependent "
          "random load over as many bytes as the metadata; to reach: 50 ns",
          EngineWorkload::kReportsPerTick,
          prefixes ? "of random prefixes of 4 chunks, plane by plane" : "each of a random block"));
  figure.page_bytes = ::sysconf(_SC_PAGESIZE);
  return figure;
}

}  // namespace

absl::StatusOr<std::vector<Figure>> EngineFigures(const EngineFigureOptions& options) {
  if (options.planes < 1 || options.planes > 1024 || options.batches < 1 ||
      options.blocks < 10'000 || options.blocks > 100'000'000 ||
      options.blocks % options.planes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.blocks, " blocks of ", options.planes, " planes in ", options.batches,
                     " batches: 10,000 to 100,000,000 blocks, a multiple of 1 to 1024 planes, and "
                     "1 batch or more are needed"));
  }
  std::string smaller;
  if (options.blocks > kSmallerBlocks) {
    EngineFigureOptions fewer = options;
    fewer.blocks = kSmallerBlocks / options.planes * options.planes;
    KVTIER_ASSIGN_OR_RETURN(const double bytes, MeasureApart(fewer));
    smaller = absl::StrFormat("; with %d blocks: %.1f bytes a block", fewer.blocks, bytes);
  }
  KVTIER_ASSIGN_OR_RETURN(const Loaded loaded, LoadEngine(options));
  const std::unique_ptr<EngineWorkload>& load = loaded.load;
  const size_t leases_held = load->leases_held();

  const std::string suffix = options.shared ? "_shared" : "";
  PointerChase chase(loaded.metadata_bytes, options.seed);
  Samples samples;
  for (uint32_t batch = 0; batch < options.batches; ++batch) {
    KVTIER_ASSIGN_OR_RETURN(const double ns, load->RunBatch());
    samples.Add(ns, kMissesPerOperation * chase.MeasureNs(1000));
  }

  Figure operation = samples.ToFigure(
      "engine_operation" + suffix,
      absl::StrFormat(
          "ceiling: %d dependent random loads over as many bytes as the metadata (%d MiB), in turn "
          "with the batches; %d blocks of %d planes; %.1f %% of the operations were moves; %d "
          "chunks were evicted, %d reservations refused; to reach: 1000 ns and ratio 1",
          kMissesPerOperation, loaded.metadata_bytes >> 20, loaded.blocks, options.planes,
          100 * load->move_share(), load->evicted(), load->refused()));
  operation.page_bytes = ::sysconf(_SC_PAGESIZE);

  Figure metadata;
  metadata.name = "engine_metadata" + suffix + "_bytes_per_block";
  metadata.value = loaded.resident_bytes_per_block();
  metadata.p50 = metadata.value;
  metadata.p99 = metadata.value;
  metadata.unit = "bytes";
  metadata.ceiling = kMetadataLimit;
  metadata.ratio = metadata.value / kMetadataLimit;
  metadata.runs = 1;
  metadata.page_bytes = ::sysconf(_SC_PAGESIZE);
  metadata.note = absl::StrFormat(
      "ceiling: the limit asked for; growth of resident memory until %d blocks of %d planes were "
      "stored and the workload held %d leases; the engine itself counts %.1f bytes a block%s",
      loaded.blocks, options.planes, leases_held,
      static_cast<double>(loaded.metadata_bytes) / static_cast<double>(loaded.blocks), smaller);
  std::vector<Figure> figures = {std::move(operation), std::move(metadata)};
  if (options.shared) {
    using Reports = EngineWorkload::Reports;
    for (const Reports kind : {Reports::kPrefixes, Reports::kBlocks}) {
      KVTIER_ASSIGN_OR_RETURN(Figure figure, ReportFigure(*load, kind, chase, options));
      figures.push_back(std::move(figure));
    }
  }
  KVTIER_CHECK(chase.position() != ~uint32_t{0});
  return figures;
}

}  // namespace kvtier::bench
