// From which size on do non-temporal copies of cold blocks win over memcpy, and what does the
// checksum cost there? Sets kNonTemporalBytesMin in proto/wire/block_copy.h. Not measured: who
// reads the copy afterwards, which favours memcpy below the size of the caches.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/copy_ceiling.h"
#include "proto/wire/block_copy.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/host/host_segment.h"

namespace kvtier::bench {
namespace {

// KVTIER_BENCH_REGION_MIB makes a run small; then nothing is cold.
Bytes RegionBytes() {
  const char* given = std::getenv("KVTIER_BENCH_REGION_MIB");
  return MiB(given != nullptr ? std::max(1, std::atoi(given)) : 512);
}

HostSegment& Region(int number) {
  static std::unique_ptr<HostSegment> regions[2];
  if (regions[number] == nullptr) {
    auto made = HostSegment::Create({.name = "kvtier:bench", .bytes = RegionBytes()});
    KVTIER_CHECK(made.ok());
    regions[number] = *std::move(made);
    std::memset(regions[number]->address(), number + 1, static_cast<size_t>(RegionBytes().count()));
  }
  return *regions[number];
}

template <typename Copy>
void CopyCold(benchmark::State& state, Copy copy) {
  const auto bytes = static_cast<size_t>(state.range(0));
  std::vector<size_t> order(static_cast<size_t>(RegionBytes().count()) / bytes);
  std::iota(order.begin(), order.end(), size_t{0});
  Rng rng(1);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  const std::byte* from = Region(0).address();
  std::byte* to = Region(1).address();
  size_t at = 0;
  for ([[maybe_unused]] auto unused : state) {
    copy(to + order[order.size() - 1 - at] * bytes, from + order[at] * bytes, bytes);
    at = at + 1 == order.size() ? 0 : at + 1;
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
}

void BM_Memcpy(benchmark::State& state) {
  CopyCold(state, [](std::byte* to, const std::byte* from, size_t bytes) {
    std::memcpy(to, from, bytes);
  });
}
void BM_CopyBytes(benchmark::State& state) { CopyCold(state, &wire::CopyBytes); }
void BM_CopyWithChecksum(benchmark::State& state) {
  CopyCold(state, [](std::byte* to, const std::byte* from, size_t bytes) {
    benchmark::DoNotOptimize(wire::CopyWithChecksum(to, from, bytes));
  });
}

void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t bytes : {2048, 4096, 8192, 16384, 65536, 262144}) bench->Arg(bytes);
}
BENCHMARK(BM_Memcpy)->Apply(Sizes);
BENCHMARK(BM_CopyBytes)->Apply(Sizes);
BENCHMARK(BM_CopyWithChecksum)->Apply(Sizes);

// The plain loops that the copy figures' ceiling is chosen from; memcpy is measured above.
void RegisterPlainLoops() {
  for (const CeilingLoop& loop : CeilingLoops().subspan(1)) {
    Sizes(benchmark::RegisterBenchmark(
        absl::StrCat("BM_Plain_", loop.name).c_str(),
        [loop](benchmark::State& state) { CopyCold(state, loop.copy); }));
  }
}

}  // namespace
}  // namespace kvtier::bench

int main(int argc, char** argv) {
  kvtier::bench::RegisterPlainLoops();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
