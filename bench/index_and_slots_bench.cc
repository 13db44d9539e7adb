// What an operation of the block index and of the slot allocator costs in one thread, and the
// memory they take a row and a slot. Rows and slots are chosen at random, so that at 10 M nearly
// every one is a cache miss; finding a row does not read the row itself. random_store is one store
// to a random word of the same number of words beside it.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "sim/sim_pool.h"
#include "tiering/base/rng.h"
#include "tiering/block/block_index.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {
namespace {

uint64_t HashOf(RowIndex row) { return Rng(row).Next(); }

void Fill(BlockIndex& index, RowIndex rows) {
  for (RowIndex row = 0; row < rows; ++row) index.Insert(HashOf(row), row, HashOf);
}

void IndexInsert(benchmark::State& state) {
  const RowIndex rows = static_cast<RowIndex>(state.range(0));
  for (auto _ : state) {
    BlockIndex index;
    Fill(index, rows);
    benchmark::DoNotOptimize(index.size());
  }
  state.SetItemsProcessed(state.iterations() * rows);
}

void IndexFind(benchmark::State& state) {
  const RowIndex rows = static_cast<RowIndex>(state.range(0));
  BlockIndex index;
  Fill(index, rows);
  Rng rng(1);
  for (auto _ : state) {
    const RowIndex row = static_cast<RowIndex>(rng.Below(rows));
    benchmark::DoNotOptimize(index.Find(HashOf(row), [&](RowIndex other) { return other == row; }));
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["bytes_per_row"] = static_cast<double>(index.metadata_bytes().count()) / rows;
}

void IndexMiss(benchmark::State& state) {
  const RowIndex rows = static_cast<RowIndex>(state.range(0));
  BlockIndex index;
  Fill(index, rows);
  Rng rng(1);
  uint64_t asked = 0;
  for (auto _ : state) {
    const RowIndex row = static_cast<RowIndex>(rows + rng.Below(rows));
    benchmark::DoNotOptimize(index.Find(HashOf(row), [&](RowIndex) { return ++asked == 0; }));
  }
  state.SetItemsProcessed(state.iterations());
}

void IndexEraseInsert(benchmark::State& state) {
  const RowIndex rows = static_cast<RowIndex>(state.range(0));
  BlockIndex index;
  Fill(index, rows);
  Rng rng(1);
  for (auto _ : state) {
    const RowIndex row = static_cast<RowIndex>(rng.Below(rows));
    index.Erase(HashOf(row), row);
    index.Insert(HashOf(row), row, HashOf);
  }
  state.SetItemsProcessed(state.iterations());
}

// A random slot is freed and one allocated, 5 % of the slots being free.
void SlotFreeAllocate(benchmark::State& state) {
  const uint64_t slots_wanted = static_cast<uint64_t>(state.range(0));
  const Bytes block_bytes = KiB(4);
  sim::SimPool::Options options;
  options.segments_max = static_cast<uint32_t>(slots_wanted / CopyRef::kSlotsMax + 1);
  sim::SimPool pool(options);
  const Bytes all = pool.segment_bytes() * pool.segments_max();
  auto allocator =
      *SlotAllocator::Create({.id = PoolId(0), .pool = &pool, .budget = all, .quota = {all}});
  std::vector<CopyRef> slots;
  slots.reserve(slots_wanted);
  for (uint64_t i = 0; i < slots_wanted; ++i)
    allocator->Allocate(TenantId(0), block_bytes, 1, slots);
  // Shuffled, so that taking them in order visits random segments without a miss of the benchmark's
  // own.
  Rng rng(1);
  for (size_t i = slots.size() - 1; i > 0; --i) std::swap(slots[i], slots[rng.Below(i + 1)]);
  for (uint64_t i = 0; i < slots_wanted / 20; ++i) {
    allocator->Free(slots.back());
    slots.pop_back();
  }
  std::vector<CopyRef> taken;
  size_t next = 0;
  for (auto _ : state) {
    allocator->Free(slots[next]);
    taken.clear();
    benchmark::DoNotOptimize(allocator->Allocate(TenantId(0), block_bytes, 1, taken));
    slots[next] = taken[0];
    if (++next == slots.size()) next = 0;
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["bytes_per_slot"] =
      static_cast<double>(allocator->metadata_bytes().count()) / static_cast<double>(slots_wanted);
}

void RandomStore(benchmark::State& state) {
  const uint64_t words = static_cast<uint64_t>(state.range(0));
  std::vector<uint32_t> memory(words);
  Rng rng(1);
  for (auto _ : state) ++memory[rng.Below(words)];
  benchmark::DoNotOptimize(memory.data());
  state.SetItemsProcessed(state.iterations());
}

constexpr int64_t kSmall = 100'000;
constexpr int64_t kLarge = 10'000'000;

BENCHMARK(IndexInsert)
    ->Name("index_insert")
    ->Arg(kSmall)
    ->Arg(kLarge)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(IndexFind)->Name("index_find")->Arg(kSmall)->Arg(kLarge);
BENCHMARK(IndexMiss)->Name("index_miss")->Arg(kSmall)->Arg(kLarge);
BENCHMARK(IndexEraseInsert)->Name("index_erase_insert")->Arg(kSmall)->Arg(kLarge);
BENCHMARK(SlotFreeAllocate)->Name("slot_free_allocate")->Arg(kSmall)->Arg(kLarge);
BENCHMARK(RandomStore)->Name("random_store")->Arg(kSmall)->Arg(kLarge);

}  // namespace
}  // namespace kvtier

BENCHMARK_MAIN();
